-- Accepts a batch: its record, its place in its account's list, its hold on the input file, and its turn to be ingested.
--
-- ARGV[1]  batch id
-- ARGV[2]  account
-- ARGV[3]  id of the input file
-- ARGV[4]  milliseconds from now until what has not begun expires
-- ARGV[5]  idempotency key, or ''
-- ARGV[6]  fingerprint of the request under that key
-- ARGV[7]  milliseconds for which the key is remembered
-- ARGV[8]  '1' where an earlier use of the idempotency key is forgotten
-- ARGV[9…] further fields of the record, names and values in turn
--
-- Answers {'created', id}, {'replayed', id of the batch first made under the key}, {'mismatch'} where the key was used
-- for another request, or {'no_file'} where the account has no such file for batches.

local id, account, file = ARGV[1], ARGV[2], ARGV[3]
local name = key('batch', id)
if redis.call('EXISTS', name) == 1 then
  return { 'created', id } -- the call is made again, its answer was lost
end
local remembered = idempotency_key(account, ARGV[5])
local earlier = remembered and made_before(remembered, 'batch', id, ARGV[6], ARGV[8])
if earlier then
  return earlier
end
local owner, purpose = unpack(redis.call('HMGET', key('file', file), 'account', 'purpose'))
if owner ~= account or purpose ~= 'batch' then
  return { 'no_file' }
end
if remembered then
  remember(remembered, 'batch', id, ARGV[6], ARGV[7])
end
redis.call('HSET', name, 'account', account, 'file', file, 'status', 'validating', 'created', integer(now),
  'expires', integer(now + tonumber(ARGV[4])), 'offset', 0, 'line', 0, 'total', 0, 'bad', 0, 'open', 0, 'fence', 0,
  unpack(ARGV, 9))
redis.call('ZADD', key('batches', account), redis.call('INCR', key('seq')), id)
redis.call('SADD', key('file_users', file), id)
redis.call('ZADD', key('batches_due'), integer(now), id)
return { 'created', id }
