-- Ends a job with its pictures.
--
-- ARGV[1]  job id
-- ARGV[2]  attempt
-- ARGV[3]  result as JSON: images, timings, provenance, warnings
-- ARGV[4]  seconds of rendering this job took, or '' where that says nothing about its predicted cost
-- ARGV[5…] two arguments a picture: image id, and its record as JSON
--
-- Answers the aftermath (the job is 'succeeded', or 'canceled' where its owner called it off meanwhile), or {'lost'} where
-- the lease is no longer the worker's: then the pictures are not recorded, and upkeep sweeps their objects. A completion
-- whose answer was lost may be made again.

local job = leased(ARGV[1], ARGV[2])
if not job then
  job = read_job(ARGV[1])
  if job and job.status == 'succeeded' and job.attempt == ARGV[2] then
    return aftermath(job)
  end
  redis.call('SADD', key('litter'), ARGV[1])
  return { 'lost' }
end
if job.cancel then
  finish(job, 'canceled')
  return aftermath(job)
end

for at = 5, #ARGV, 2 do
  redis.call('SET', key('image', ARGV[at]), ARGV[at + 1])
  redis.call('ZADD', key('images', job.account), redis.call('INCR', key('seq')), ARGV[at])
end

-- The measured rate corrects predictions: a moving average that forgets after about ten jobs, quick enough to follow
-- a changed card, slow enough not to follow one odd job.
local SMOOTHING = 0.1
if ARGV[4] ~= '' then
  local measured = tonumber(ARGV[4]) / tonumber(job.cost)
  local rate = tonumber(redis.call('HGET', key('model', job.model), 'rate') or measured)
  redis.call('HSET', key('model', job.model), 'rate', exact(rate + SMOOTHING * (measured - rate)))
end

finish(job, 'succeeded', ARGV[3])
return aftermath(job)
