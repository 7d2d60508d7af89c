-- Takes webhook deliveries that are due. Each stays due again after the lease, so one whose sender dies is sent again.
--
-- ARGV[1]  most deliveries to take
-- ARGV[2]  milliseconds until they are due again unless recorded
--
-- Answers their ids.

local ids = redis.call('ZRANGEBYSCORE', key('due'), '-inf', integer(now), 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  redis.call('ZADD', key('due'), integer(now + tonumber(ARGV[2])), id)
end
return ids
