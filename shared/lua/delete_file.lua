-- Forgets a file, unless a batch that is not finished needs it.
--
-- ARGV[1]  file id
--
-- Answers 'deleted', also where there is no such file, or 'needed'.

local name = key('file', ARGV[1])
if redis.call('SCARD', key('file_users', ARGV[1])) > 0 then
  return 'needed'
end
local account = redis.call('HGET', name, 'account')
if account then
  redis.call('ZREM', key('files', account), ARGV[1])
end
redis.call('DEL', name)
redis.call('ZREM', key('expiring_files'), ARGV[1])
return 'deleted'
