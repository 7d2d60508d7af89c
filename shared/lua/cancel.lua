-- Calls a job off for its owner. A queued one ends at once; a running one is marked, and its worker stops at the
-- next denoising step; a finished one stays as it is.
--
-- ARGV[1]  job id
-- ARGV[2]  account
--
-- Answers the aftermath, or {'unknown'} where the account has no such job. Twice is as good as once.

local job = read_job(ARGV[1])
if not job or job.account ~= ARGV[2] then
  return { 'unknown' }
end
if job.status == 'queued' then
  finish(job, 'canceled')
elseif job.status == 'running' and not job.cancel then
  job.stage = 'canceling'
  redis.call('HSET', key('job', job.id), 'cancel', 1, 'stage', job.stage)
  emit(job)
end
return aftermath(job)
