-- Ends a running job that its owner called off, once its worker has stopped.
--
-- ARGV[1]  job id
-- ARGV[2]  attempt
--
-- Answers the aftermath, or {'lost'} where the lease is no longer the worker's or nobody called the job off. Called
-- again, it changes nothing.

local job = leased(ARGV[1], ARGV[2])
if not job or not job.cancel then
  return { 'lost' }
end
finish(job, 'canceled')
return aftermath(job)
