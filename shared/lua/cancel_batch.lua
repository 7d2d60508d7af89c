-- Calls a batch off for its owner. The worker that has it, or the next one, cancels its jobs.
--
-- ARGV[1]  batch id
-- ARGV[2]  account
--
-- Answers the status before, or 'unknown' where the account has no such batch. Only 'validating' and 'in_progress' can
-- be called off; 'cancelling' stays so.

local name = key('batch', ARGV[1])
local account, status = unpack(redis.call('HMGET', name, 'account', 'status'))
if account ~= ARGV[2] then
  return 'unknown'
end
if status == 'validating' or status == 'in_progress' then
  redis.call('HSET', name, 'status', 'cancelling', 'cancelling_at', integer(now))
  -- Its jobs are to be gone through once more; who reads its lines now learns of it when holding it.
  local rests = redis.call('HDEL', name, 'ingested') == 1
  if rests then
    redis.call('ZADD', key('batches_due'), integer(now), ARGV[1])
  end
  redis.call('PUBLISH', key('wake'), ARGV[1])
end
return status
