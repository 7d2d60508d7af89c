-- Repairs what time has broken: leases of workers that went silent, retries whose pause is over, deadlines that
-- passed in the queue.
--
-- ARGV[1]  most jobs to touch of each kind, so that one sweep never holds Redis long
-- ARGV[2]  most attempts of a job
--
-- Answers {leases ended, retries due, jobs expired}.

local limit, max_attempts = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Repairs the jobs that are due in a sorted set of times; how many there were. An entry whose job's record is gone,
-- which only a hand can bring about, must not stop the sweep for all the others.
local function repair_due(set, repair)
  local ids = redis.call('ZRANGEBYSCORE', key(set), '-inf', integer(now), 'LIMIT', 0, limit)
  for _, id in ipairs(ids) do
    local job = read_job(id)
    if job then
      repair(job)
    else
      redis.call('ZREM', key(set), id)
    end
  end
  return #ids
end

local leases_ended = repair_due('leases', function(job)
  if job.cancel then
    finish(job, 'canceled')
  elseif attempts_charged(job) < max_attempts then
    -- It may be what brought its worker down: from now on it is rendered alone, where it takes nobody with it.
    redis.call('HINCRBY', key('job', job.id), 'lost', 1)
    requeue(job, 0)
  else
    finish(job, 'failed', failure('worker_lost',
      'Its worker disappeared in each of ' .. attempts_charged(job) .. ' attempts; submit it again'))
  end
end)
if leases_ended > 0 then
  redis.call('INCRBY', key('leases_expired'), leases_ended)
end

local retries = repair_due('delayed', function(job)
  leave(job)
  job.stage = 'waiting'
  redis.call('HSET', key('job', job.id), 'stage', job.stage)
  push_one(job)
  emit(job)
end)

local expired = repair_due('deadlines', function(job)
  finish(job, 'expired')
end)

return { leases_ended, retries, expired }
