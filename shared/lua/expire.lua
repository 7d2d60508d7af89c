-- Ends jobs that wait past their deadline: those of a batch, whose deadline is the batch's and no entry of `deadlines`.
--
-- ARGV[1…] job ids
--
-- Answers how many there were.

local expired = 0
for _, id in ipairs(ARGV) do
  local job = read_job(id)
  if job and job.status == 'queued' and job.deadline and tonumber(job.deadline) <= now then
    finish(job, 'expired')
    expired = expired + 1
  end
end
return expired
