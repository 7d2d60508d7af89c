-- Where a queued job stands, or one would that were accepted now. Changes nothing, but for the note of what was told
-- first, by which estimates are judged in the end.
--
-- ARGV[1]  live workers of its model
-- ARGV[2]  job id, or '' for a job that is not accepted yet; then
-- ARGV[3]  its model
-- ARGV[4]  its account
-- ARGV[5]  its priority
-- ARGV[6]  its cost
--
-- Answers {jobs that will be served before it, estimated; milliseconds until it is done, estimated, or -1 where no job of
-- its model was measured yet}, or {-1} where it waits in no queue.

local workers, id = tonumber(ARGV[1]), ARGV[2]
local job
if id ~= '' then
  job = read_job(id)
else
  job = { status = 'queued', model = ARGV[3], flow = ARGV[4] .. '/' .. ARGV[5], cost = ARGV[6], seq = '+inf' }
end
if not job or job.status ~= 'queued' or job.stage == 'retrying' then
  return { -1 }
end
return { standing(job, workers) }
