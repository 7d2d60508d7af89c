-- Renews leases and reports progress, for all the jobs a worker holds.
--
-- ARGV[1]  milliseconds until the leases end unless renewed again
-- ARGV[2…] four arguments a lease: job id, attempt, stage, progress from 0 to 1
--
-- Answers one word a lease: 'held', 'canceled' (its owner called the job off: stop, then `abandon`) or 'lost'
-- (somebody else has the job, or nobody: stop and drop everything).

local lease = tonumber(ARGV[1])
local answer = {}
for at = 2, #ARGV, 4 do
  local job = leased(ARGV[at], ARGV[at + 1])
  if not job then
    table.insert(answer, 'lost')
  else
    redis.call('ZADD', key('leases'), integer(now + lease), job.id)
    if job.cancel then
      table.insert(answer, 'canceled')
    else
      if job.stage ~= ARGV[at + 2] or (job.progress or '0') ~= ARGV[at + 3] then
        job.stage, job.progress = ARGV[at + 2], ARGV[at + 3]
        redis.call('HSET', key('job', job.id), 'stage', job.stage, 'progress', job.progress)
        emit(job)
      end
      table.insert(answer, 'held')
    end
  end
end
return answer
