-- Goes on with a claimed batch: its lease begins anew, and what has been done is written down.
--
-- ARGV[1]  batch id
-- ARGV[2]  fence of the claim
-- ARGV[3]  milliseconds until it is due again unless held again
-- ARGV[4]  status to move on to, 'in_progress' or 'finalizing', or ''; one that is being cancelled stays so
-- ARGV[5…] fields of the record, names and values in turn; 'ingested' says that no more jobs will come
--
-- Answers {status, 1 where the batch rests}, or {'lost'} where another worker has it. With all its lines read, and none
-- of its jobs to be called off, a batch rests until its last job is finished, or its window is over.

local FROM = { in_progress = 'validating', finalizing = 'in_progress' }

local name = key('batch', ARGV[1])
if redis.call('HGET', name, 'fence') ~= ARGV[2] then
  return { 'lost' }
end
if #ARGV > 4 then
  redis.call('HSET', name, unpack(ARGV, 5))
end
local status = redis.call('HGET', name, 'status')
if status == 'cancelling' and redis.call('HEXISTS', name, 'called_off') == 0 then
  -- It was cancelled while its last lines were read: its jobs are to be gone through.
  redis.call('HDEL', name, 'ingested')
end
if FROM[ARGV[4]] == status then
  status = ARGV[4]
  redis.call('HSET', name, 'status', status, status .. '_at', integer(now))
end
local rests = tonumber(redis.call('HGET', name, 'open')) > 0 and redis.call('HEXISTS', name, 'ingested') == 1
if rests then
  -- The end of its last job makes it due at once; the end of its window, to expire what waits.
  local expires = math.max(tonumber(redis.call('HGET', name, 'expires')), now + tonumber(ARGV[3]))
  redis.call('ZADD', key('batches_due'), integer(expires), ARGV[1])
else
  redis.call('ZADD', key('batches_due'), integer(now + tonumber(ARGV[3])), ARGV[1])
end
redis.call('PUBLISH', key('wake'), ARGV[1])
return { status, rests and 1 or 0 }
