-- Ends a batch: record, webhook deliveries, retention, and its hold on the input file, in one step.
--
-- ARGV[1]  batch id
-- ARGV[2]  fence of the claim
-- ARGV[3]  'completed', 'failed', 'expired' or 'cancelled'
-- ARGV[4…] fields of the record, names and values in turn
--
-- Answers 'finished', also when called again, or 'lost' where another worker has the batch.

local name = key('batch', ARGV[1])
local fence, status, account, file = unpack(redis.call('HMGET', name, 'fence', 'status', 'account', 'file'))
if status == ARGV[3] then
  return 'finished'
end
if fence ~= ARGV[2] then
  return 'lost'
end
redis.call('HSET', name, 'status', ARGV[3], ARGV[3] .. '_at', integer(now), unpack(ARGV, 4))
redis.call('ZREM', key('batches_due'), ARGV[1])
redis.call('SREM', key('file_users', file), ARGV[1])
redis.call('ZADD', key('retained_batches'), integer(now), ARGV[1])
add_endpoint_deliveries({ id = ARGV[1], account = account, status = ARGV[3] }, 'batch.' .. ARGV[3])
redis.call('PUBLISH', key('wake'), ARGV[1])
return 'finished'
