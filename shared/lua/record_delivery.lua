-- Records one attempt to deliver a webhook, and what comes next.
--
-- ARGV[1]  delivery id
-- ARGV[2]  the attempt as JSON
-- ARGV[3]  'delivered', 'failed' or 'pending'
-- ARGV[4]  milliseconds until the next attempt of a pending one
-- ARGV[5]  seconds for which a finished delivery is kept
--
-- Answers its status, or 'gone' where there is no such delivery. A record whose answer was lost may be made again. A
-- delivery that is over stays so: a sender that was presumed dead only adds its attempt to the log.

local ATTEMPTS_KEPT = 20 -- more than the schedule has, so that redeliveries show as well

local name = key('delivery', ARGV[1])
if redis.call('EXISTS', name) == 0 then
  redis.call('ZREM', key('due'), ARGV[1])
  return 'gone'
end
if redis.call('LINDEX', key('attempts', ARGV[1]), -1) == ARGV[2] then
  return ARGV[3]
end
redis.call('HINCRBY', name, 'attempts', 1)
redis.call('RPUSH', key('attempts', ARGV[1]), ARGV[2])
redis.call('LTRIM', key('attempts', ARGV[1]), -ATTEMPTS_KEPT, -1)
local status = redis.call('HGET', name, 'status')
if status ~= 'pending' then
  return status
end
redis.call('HSET', name, 'status', ARGV[3])
if ARGV[3] == 'pending' then
  redis.call('ZADD', key('due'), integer(now + tonumber(ARGV[4])), ARGV[1])
else
  redis.call('ZREM', key('due'), ARGV[1])
  redis.call('EXPIRE', name, ARGV[5])
  redis.call('EXPIRE', key('attempts', ARGV[1]), ARGV[5])
  redis.call('HINCRBY', key('deliveries_finished'), ARGV[3], 1)
end
return ARGV[3]
