-- Gives a job back unharmed, at its old place, without charging an attempt: the worker is going away.
--
-- ARGV[1]  job id
-- ARGV[2]  attempt
--
-- Answers the aftermath (the job is 'queued' or 'canceled'), or {'lost'}, as it does when it is called again.

local job = leased(ARGV[1], ARGV[2])
if not job then
  return { 'lost' }
end
if job.cancel then
  finish(job, 'canceled')
else
  -- The attempt number stays spent: it is the fencing token, and no two leases share one.
  redis.call('HINCRBY', key('job', job.id), 'releases', 1)
  requeue(job, 0)
end
return aftermath(job)
