-- Takes webhook deliveries that are due. Each stays due again after the lease, so one whose sender dies is sent again.
--
-- ARGV[1]  most deliveries to take
-- ARGV[2]  milliseconds until they are due again unless recorded
--
-- Answers {id, then its record as fields and values} for each.

local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', integer(now), 'LIMIT', 0, ARGV[1])) do
  local record = redis.call('HGETALL', key('delivery', id))
  if #record > 0 then
    redis.call('ZADD', key('due'), integer(now + tonumber(ARGV[2])), id)
    table.insert(taken, { id, unpack(record) })
  else
    -- Only a hand can have removed its record.
    redis.call('ZREM', key('due'), id)
  end
end
return taken
