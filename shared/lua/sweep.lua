-- Repairs what time has broken: leases of workers that went silent, retries whose pause is over, deadlines that
-- passed in the queue.
--
-- ARGV[1]  most jobs to touch of each kind, so that one sweep never holds Redis long
-- ARGV[2]  most attempts of a job
--
-- Answers {leases ended, retries due, jobs expired}.

local limit, max_attempts = tonumber(ARGV[1]), tonumber(ARGV[2])

local function due(set)
  return redis.call('ZRANGEBYSCORE', key(set), '-inf', integer(now), 'LIMIT', 0, limit)
end

local lost = due('leases')
for _, id in ipairs(lost) do
  local job = read_job(id)
  if job.cancel then
    finish(job, 'canceled', '{}')
  elseif attempts_charged(job) < max_attempts then
    requeue(job, 0)
  else
    finish(job, 'failed', failure('worker_lost',
      'Its worker disappeared in each of ' .. attempts_charged(job) .. ' attempts; submit it again'))
  end
end
if #lost > 0 then
  redis.call('INCRBY', key('leases_expired'), #lost)
end

local retries = due('delayed')
for _, id in ipairs(retries) do
  local job = read_job(id)
  redis.call('ZREM', key('delayed'), id)
  redis.call('HSET', key('job', id), 'stage', 'waiting')
  push(job)
end

local expired = due('deadlines')
for _, id in ipairs(expired) do
  local job = read_job(id)
  pull(job)
  finish(job, 'expired', '{}')
end

return { #lost, #retries, #expired }
