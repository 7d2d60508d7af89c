-- Ends an attempt that failed.
--
-- ARGV[1]  job id
-- ARGV[2]  attempt
-- ARGV[3]  code of the failure
-- ARGV[4]  message for the owner
-- ARGV[5]  most attempts; 1 where a retry cannot mend it
-- ARGV[6]  milliseconds to wait before the second attempt, doubled with each further one
--
-- Answers the aftermath (the job is 'queued', 'failed' or 'canceled'), or {'lost'}. A failure whose answer was lost may
-- be reported again: that changes nothing, and the answer is 'lost', for the report ended the lease.

local LONGEST_DELAY = 600000 -- ten minutes: doubling must not put a retry off for hours

local job = leased(ARGV[1], ARGV[2])
if not job then
  return { 'lost' }
end
if job.cancel then
  finish(job, 'canceled')
elseif attempts_charged(job) < tonumber(ARGV[5]) then
  requeue(job, math.min(LONGEST_DELAY, tonumber(ARGV[6]) * 2 ^ (attempts_charged(job) - 1)))
else
  finish(job, 'failed', failure(ARGV[3], ARGV[4]))
end
return aftermath(job)
