-- Takes the batch that has been due the longest. It is due again after the lease, so one whose worker dies is taken up.
--
-- ARGV[1]  milliseconds until it is due again unless held
--
-- Answers {id, fence}, the fence being what every further write of this claim carries; or {} where none is due.

while true do
  local id = redis.call('ZRANGEBYSCORE', key('batches_due'), '-inf', integer(now), 'LIMIT', 0, 1)[1]
  if not id then
    return {}
  end
  if redis.call('EXISTS', key('batch', id)) == 1 then
    redis.call('ZADD', key('batches_due'), integer(now + tonumber(ARGV[1])), id)
    return { id, redis.call('HINCRBY', key('batch', id), 'fence', 1) }
  end
  redis.call('ZREM', key('batches_due'), id)
end
