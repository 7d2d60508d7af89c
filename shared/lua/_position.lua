-- Where a job stands in its model's queue. Put before the verbs that tell it.
--
-- In its own flow the jobs accepted earlier come first. Another flow's jobs come first until that flow's tag passes
-- the tag at which this job will be served. What is not looked at counts like what is: flows beyond the first, lanes
-- of a flow beyond its first, and jobs of a lane beyond its head. That batches ride along is left out: it moves a job
-- by a batch in a queue of one lane, and by more where lanes are mixed.

-- Mostly some hundred commands, for this is asked whenever a job is accepted or looked at.
local FLOWS_SEEN, LANES_SEEN = 48, 8

-- The jobs of a flow with a sequence number up to `most`, and the mean cost of its jobs.
local function backlog_of(job, flow, most)
  local lanes_key = key('lanes', job.model, flow)
  local lanes = redis.call('ZRANGE', lanes_key, 0, LANES_SEEN - 1)
  if #lanes == 0 then
    return 0, tonumber(job.cost)
  end
  local all, cost, below = 0, 0, 0
  for _, lane in ipairs(lanes) do
    local queue = key('queue', job.model, flow, lane)
    local jobs = redis.call('ZCARD', queue)
    local head = redis.call('ZRANGE', queue, 0, 0)[1]
    all = all + jobs
    cost = cost + jobs * tonumber(redis.call('HGET', key('job', head), 'cost') or job.cost)
    below = below + (most == '+inf' and jobs or redis.call('ZCOUNT', queue, '-inf', most))
  end
  return below * redis.call('ZCARD', lanes_key) / #lanes, cost / all
end

-- How many turns a flow has before the tag `served_at`; at the same tag, flows come in the order of their names.
local function turns_before(job, served_at, flow, tag, cost)
  local turns = (served_at - tag) * weight_of(flow) / cost
  local whole = math.floor(turns + 1e-9)
  local has_one_more = turns - whole > 1e-9 or flow < job.flow
  return math.max(0, whole + (has_one_more and 1 or 0))
end

-- `job` has a model, flow, cost and seq, and an id if it waits already; without one it is as if it came now, and its seq
-- is '+inf'. With that many workers at its model: jobs that will be served before it, and milliseconds until it is done,
-- both estimated; -1 for the latter before a first job of the model was measured here, for the catalog's costs are those
-- of another card, which may be a hundred times faster. The jobs before it are work that the workers share; its own rendering is not shared. Where every
-- worker is busy, what runs is taken to be half done. What is told first of a job is noted, and judged when it is done.
local function standing(job, workers)
  workers = math.max(1, workers)
  local ahead, own_cost = backlog_of(job, job.flow, '(' .. job.seq)
  local work = ahead * own_cost
  local served_at = tag_of(job.model, job.flow) + work / weight_of(job.flow)

  -- Its own flow is among those below, and so one more than are to be seen is asked for.
  local flows = redis.call('ZRANGEBYSCORE', key('flows', job.model), '-inf', exact(served_at), 'WITHSCORES',
    'LIMIT', 0, FLOWS_SEEN + 1)
  local seen, others, others_work = 0, 0, 0
  for i = 1, #flows, 2 do
    local flow, tag = flows[i], tonumber(flows[i + 1])
    if flow ~= job.flow then
      local jobs, cost = backlog_of(job, flow, '+inf')
      jobs = math.min(jobs, turns_before(job, served_at, flow, tag, cost))
      seen, others, others_work = seen + 1, others + jobs, others_work + jobs * cost
    end
  end
  if seen > 0 then
    local own = redis.call('ZSCORE', key('flows', job.model), job.flow) and 1 or 0
    local share = (redis.call('ZCOUNT', key('flows', job.model), '-inf', exact(served_at)) - own) / seen
    ahead, work = ahead + others * share, work + others_work * share
  end

  local state = redis.call('HMGET', key('model', job.model), 'queued', 'rate', 'running')
  local others_queued = tonumber(state[1] or 0) - (job.id and 1 or 0)
  ahead = math.min(others_queued, math.floor(ahead + 0.5))
  local own, busy = tonumber(job.cost), tonumber(state[3] or 0)
  if busy >= workers then
    work = work + busy * own / 2
  end
  if not state[2] then
    return ahead, -1
  end
  local eta = math.floor(1000 * tonumber(state[2]) * (work / workers + own) + 0.5)
  if job.id then
    redis.call('HSETNX', key('job', job.id), 'eta', integer(now + eta))
  end
  return ahead, eta
end
