-- Leases a batch of jobs of one model and one lane to a worker.
--
-- ARGV[1]  model
-- ARGV[2]  worker
-- ARGV[3]  most images in the batch; a first job with more is claimed alone
-- ARGV[4]  milliseconds until the leases end unless renewed
--
-- Answers {jobs of the model still queued, then for each claimed job: id, attempt, account, cost, milliseconds it
-- waited, spec as JSON}.
--
-- The flow with the least tag leads: its oldest job decides the lane. Places that are left go to jobs of the same
-- lane, by tag again. Each job advances its flow's tag by its cost over the flow's weight. Riding along costs the
-- others time, so a flow may ride only until it is one full batch ahead of the first flow that cannot share this
-- lane. Where nobody else waits, nobody is held back.

local model, worker, limit, lease = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

-- Flows looked at for one place in the batch, and for somebody who is kept waiting by it: enough to fill batches,
-- few enough that a claim costs the same however many flows there are.
local LOOKAHEAD = 16
-- Jobs past their deadline that one claim may meet before it answers; the sweeper takes the rest.
local EXPIRED_LIMIT = 64

local flows = key('flows', model)
local claimed = {}
local images = 0
local expired = 0

local function head_of(flow, lane)
  return redis.call('ZRANGE', key('queue', model, flow, lane), 0, 0)[1]
end

local function take(job)
  local tag = tag_of(model, job.flow) + tonumber(job.cost) / weight_of(job.flow)
  pull(job)
  redis.call('HSET', key('finish', model), job.flow, exact(tag))
  redis.call('ZADD', flows, 'XX', exact(tag), job.flow)
  redis.call('ZADD', key('lane', model, job.lane), 'XX', exact(tag), job.flow)

  job.attempt = integer(tonumber(job.attempt or 0) + 1)
  set_status(job, 'running', 'loading')
  redis.call('HSET', key('job', job.id), 'attempt', job.attempt, 'worker', worker)
  redis.call('HSETNX', key('job', job.id), 'started', integer(now))
  redis.call('ZREM', key('deadlines'), job.id)
  redis.call('ZADD', key('leases'), integer(now + lease), job.id)
  emit(job)
  images = images + tonumber(job.n)
  table.insert(claimed, job)
end

-- The job, unless its deadline has passed: then it ends here.
local function live(id)
  local job = read_job(id)
  if job.deadline and tonumber(job.deadline) <= now then
    pull(job)
    finish(job, 'expired', '{}')
    expired = expired + 1
    return nil
  end
  return job
end

local function lead()
  while expired < EXPIRED_LIMIT do
    local first = redis.call('ZRANGE', flows, 0, 0, 'WITHSCORES')
    if #first == 0 then
      return nil
    end
    local lane = redis.call('ZRANGE', key('lanes', model, first[1]), 0, 0)[1]
    local job = live(head_of(first[1], lane))
    if job then
      local virtual_time = tonumber(redis.call('HGET', key('model', model), 'virtual_time') or 0)
      redis.call('HSET', key('model', model), 'virtual_time', exact(math.max(virtual_time, tonumber(first[2]))))
      return job
    end
  end
end

-- The tag of the first flow that has nothing in this lane: the one whom riders keep waiting.
local function competitor_tag(lane)
  local first = redis.call('ZRANGE', flows, 0, LOOKAHEAD - 1, 'WITHSCORES')
  for i = 1, #first, 2 do
    if redis.call('EXISTS', key('queue', model, first[i], lane)) == 0 then
      return tonumber(first[i + 1])
    end
  end
  return math.huge
end

-- The next job to ride along, or nil.
local function rider(lane, horizon, image_cost)
  local lane_flows = key('lane', model, lane)
  local candidates = redis.call('ZRANGE', lane_flows, 0, LOOKAHEAD - 1)
  local tagged = {}
  for _, flow in ipairs(candidates) do
    local tag = tag_of(model, flow)
    redis.call('ZADD', lane_flows, 'XX', exact(tag), flow)
    table.insert(tagged, { flow = flow, tag = tag })
  end
  table.sort(tagged, function(a, b)
    if a.tag ~= b.tag then
      return a.tag < b.tag
    end
    return a.flow < b.flow
  end)
  for _, candidate in ipairs(tagged) do
    local one_batch = limit * image_cost / weight_of(candidate.flow)
    if candidate.tag < horizon + one_batch then
      local id = head_of(candidate.flow, lane)
      local n = tonumber(redis.call('HGET', key('job', id), 'n'))
      if images + n <= limit then
        return id
      end
    end
  end
end

local leader = lead()
if leader then
  take(leader)
  local image_cost = tonumber(leader.cost) / tonumber(leader.n)
  local horizon = competitor_tag(leader.lane)
  while images < limit and expired < EXPIRED_LIMIT do
    local id = rider(leader.lane, horizon, image_cost)
    if not id then
      break
    end
    local job = live(id)
    if job then
      take(job)
    end
  end
end

local answer = { tonumber(redis.call('HGET', key('model', model), 'queued') or 0) }
for _, job in ipairs(claimed) do
  table.insert(answer, { job.id, tonumber(job.attempt), job.account, job.cost,
    integer(now - tonumber(job.created)), redis.call('GET', key('spec', job.id)) })
end
return answer
