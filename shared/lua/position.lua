-- Where a queued job stands. Reads only.
--
-- ARGV[1]  job id
--
-- Answers {jobs that will be served before it, estimated; predicted seconds of work of those jobs and its own;
-- measured rate as a string}, or {-1} where it waits in no queue.
--
-- In its own flow the jobs accepted earlier come first. Another flow's jobs come first until that flow's tag
-- passes the tag at which this job will be served; with more flows than are looked at, the rest counts like these.

local LOOKAHEAD = 64

local job = read_job(ARGV[1])
if not job or job.status ~= 'queued' or not redis.call('ZSCORE', queue_key(job), job.id) then
  return { -1 }
end

local function jobs_of(flow, below)
  local lanes = redis.call('ZRANGE', key('lanes', job.model, flow), 0, LOOKAHEAD - 1)
  local count = 0
  for _, lane in ipairs(lanes) do
    count = count + redis.call('ZCOUNT', key('queue', job.model, flow, lane), '-inf', below)
  end
  return count
end

local state = redis.call('HMGET', key('model', job.model), 'queued', 'queued_cost', 'rate')
local queued = math.max(1, tonumber(state[1] or 1))
local mean_cost = tonumber(state[2] or 0) / 1e6 / queued

local ahead = jobs_of(job.flow, '(' .. job.seq)
local served_at = tag_of(job.model, job.flow) + ahead * mean_cost / weight_of(job.flow)

local others = redis.call('ZRANGE', key('flows', job.model), 0, LOOKAHEAD, 'WITHSCORES')
local seen, before = 0, 0
for i = 1, #others, 2 do
  local flow, tag = others[i], tonumber(others[i + 1])
  if flow ~= job.flow then
    seen = seen + 1
    if tag <= served_at and mean_cost > 0 then
      local turns = math.floor((served_at - tag) * weight_of(flow) / mean_cost) + 1
      before = before + math.min(turns, jobs_of(flow, '+inf'))
    end
  end
end
local flows = redis.call('ZCARD', key('flows', job.model)) - 1
if seen > 0 and flows > seen then
  before = before * flows / seen
end

ahead = math.min(queued - 1, math.floor(ahead + before))
return { ahead, exact(ahead * mean_cost + tonumber(job.cost)), state[3] or '1' }
