-- Records a file whose bytes are stored.
--
-- ARGV[1]  file id
-- ARGV[2]  account
-- ARGV[3]  when it came, in Unix seconds
-- ARGV[4]  when it expires, in Unix seconds, or ''
-- ARGV[5]  idempotency key, or ''
-- ARGV[6]  fingerprint of the upload under that key
-- ARGV[7]  milliseconds for which the key is remembered
-- ARGV[8]  '1' where an earlier use of the idempotency key is forgotten
-- ARGV[9…] further fields of the record, names and values in turn
--
-- Answers {'added'}, also where the call is made again, {'replayed', id of the file first recorded under the key}, or
-- {'mismatch'} where the key was used for another upload. A key whose file was deleted is free again.

local id, account, expires = ARGV[1], ARGV[2], ARGV[4]
local remembered = idempotency_key(account, ARGV[5])
if remembered then
  local earlier, first = made_before(remembered, 'file', id, ARGV[6], ARGV[8])
  if earlier and redis.call('EXISTS', key('file', first)) == 1 then
    return earlier
  end
  remember(remembered, 'file', id, ARGV[6], ARGV[7])
end
redis.call('HSET', key('file', id), 'account', account, 'created', ARGV[3], unpack(ARGV, 9))
redis.call('ZADD', key('files', account), ARGV[3], id)
if expires ~= '' then
  redis.call('HSET', key('file', id), 'expires', expires)
  redis.call('ZADD', key('expiring_files'), expires, id)
end
return { 'added' }
