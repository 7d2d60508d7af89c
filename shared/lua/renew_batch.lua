-- Renews the claim on a batch while its worker is busy.
--
-- ARGV[1]  batch id
-- ARGV[2]  fence of the claim
-- ARGV[3]  milliseconds until it is due again unless renewed
--
-- Answers 1, or 0 where there is nothing to renew: another worker has the batch, or it is finished, it rests until the end
-- of its window, or it is due at once, be it that its last job has ended or that the claim is over.

local due = tonumber(redis.call('ZSCORE', key('batches_due'), ARGV[1]) or 0)
local renewed = now + tonumber(ARGV[3])
if redis.call('HGET', key('batch', ARGV[1]), 'fence') ~= ARGV[2] or due <= now or due > renewed then
  return 0
end
redis.call('ZADD', key('batches_due'), integer(renewed), ARGV[1])
return 1
