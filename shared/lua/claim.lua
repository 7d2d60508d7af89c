-- Leases a batch of jobs of one model and one lane to a worker.
--
-- ARGV[1]  worker
-- ARGV[2]  milliseconds until the leases end unless renewed
-- ARGV[3]  a name for this very call: should its answer be lost, the same call made again gets the same jobs
-- ARGV[4]  the lane of a batch of the first model that these jobs are to join; '' for a new batch of any lane
-- then for each model that the worker serves, the one to be served first first:
--          model, most images in the batch; a first job with more is claimed alone
--
-- Answers {model of the jobs, images that could still join the batch, 1 where others of these models have jobs that could
-- be claimed, jobs of the model that could be claimed next, tickets that lie for them, then for each claimed job: id,
-- attempt, account, cost, milliseconds it waited, spec as JSON}.
--
-- The first of the models that has work is served. In it, the flow with the least tag leads: its oldest job decides the
-- lane. Places that are left go to jobs of the same lane, by tag again. Each job advances its flow's tag by its cost over
-- the flow's weight. Riding along costs the others time, so a flow may ride only until it is one full batch ahead of the
-- first flow that cannot share this batch. Where nobody else waits, nobody is held back. docs/architecture.md derives the
-- bound on unfairness. Jobs join a batch only where one of its lane would lead.
--
-- An account with as many jobs running as it may have is passed over: its flows are not in `flows`.

local worker, lease, receipt, joined = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local FIRST_MODEL = 5
local model, limit = ARGV[FIRST_MODEL], tonumber(ARGV[FIRST_MODEL + 1])

-- Flows looked at for one place in the batch, and for somebody who is kept waiting by it: enough to fill batches,
-- few enough that a claim costs the same however many flows there are.
local LOOKAHEAD = 16
-- How often one place in the batch may find lagging tags among them before it stays empty.
local REFRESHES = 8
-- Jobs past their deadline that one claim may meet before it answers; the sweeper takes the rest.
local EXPIRED_LIMIT = 64
-- Where a flow that is held back stands in a lane, for it has no tag: behind all others, out of their way.
local FAR = 1e300

local flows = key('flows', model)
local claimed = {}
local images = 0
local expired = 0
-- The least tag of a flow that waits and cannot share this batch: riders keep it waiting.
local horizon = math.huge

local function work_elsewhere()
  for i = FIRST_MODEL, #ARGV, 2 do
    if ARGV[i] ~= model and claimable(ARGV[i]) > 0 then
      return 1
    end
  end
  return 0
end

local function answer(jobs, room)
  local rows = { model, math.max(0, room), work_elsewhere(), claimable(model), render_tickets(model) }
  for _, job in ipairs(jobs) do
    table.insert(rows, { job.id, tonumber(job.attempt), job.account, job.cost,
      integer(now - tonumber(job.created)), redis.call('GET', key('spec', job.id)) })
  end
  return rows
end

local function head_of(flow, lane)
  return redis.call('ZRANGE', key('queue', model, flow, lane), 0, 0)[1]
end

local function take(job)
  local tag = tag_of(model, job.flow) + tonumber(job.cost) / weight_of(job.flow)
  job.attempt = integer(tonumber(job.attempt or 0) + 1)
  move(job, 'running', 'loading', 'attempt', job.attempt, 'worker', worker, 'started', job.started or integer(now))
  redis.call('ZADD', key('leases'), integer(now + lease), job.id)
  count(model, 'running', 1)
  emit(job)
  images = images + tonumber(job.n)
  table.insert(claimed, job)

  redis.call('ZADD', key('finish', model), exact(tag), job.flow)
  if is_capped(job.account) then
    hold_back(job.account)
    return
  end
  local waits = redis.call('ZADD', flows, 'XX', 'CH', exact(tag), job.flow) == 1
  local shares = redis.call('ZADD', key('lane', model, job.lane), 'XX', 'CH', exact(tag), job.flow) == 1
  if waits and not shares then
    horizon = math.min(horizon, tag)
  end
end

-- The job at the head of a queue, unless its deadline has passed: then it ends here.
local function live(id, flow, lane)
  local job = read_job(id)
  if not job then
    -- Only a hand can remove the record of a queued job; it must not stop the claims of all the others.
    pull({ id = id, model = model, flow = flow, lane = lane, cost = 0 })
  elseif job.deadline and tonumber(job.deadline) <= now then
    finish(job, 'expired')
  else
    return job
  end
  expired = expired + 1
end

local function lead()
  while expired < EXPIRED_LIMIT do
    local flow = redis.call('ZRANGE', flows, 0, 0)[1]
    if not flow then
      return nil
    end
    local lane = redis.call('ZRANGE', key('lanes', model, flow), 0, 0)[1]
    local job = live(head_of(flow, lane), flow, lane)
    if job then
      return job
    end
  end
end

-- The tag of the first flow that has nothing in this lane; where none of those looked at is such, what every flow
-- further back has at least.
local function competitor_tag(lane)
  local first = redis.call('ZRANGE', flows, 0, LOOKAHEAD - 1, 'WITHSCORES')
  for i = 1, #first, 2 do
    if redis.call('EXISTS', key('queue', model, first[i], lane)) == 0 then
      return tonumber(first[i + 1])
    end
  end
  return #first == 2 * LOOKAHEAD and tonumber(first[#first]) or math.huge
end

-- The first flows of a lane, by tag; whether any tag lagged behind; and a tag that no flow further back is below.
local function first_of(lane)
  local lane_flows = key('lane', model, lane)
  local rows = redis.call('ZRANGE', lane_flows, 0, LOOKAHEAD - 1, 'WITHSCORES')
  if #rows == 0 then
    return {}, false, math.huge
  end
  local names = {}
  for i = 1, #rows, 2 do
    table.insert(names, rows[i])
  end
  local tags = redis.call('ZMSCORE', flows, unpack(names))
  local candidates, lagged = {}, false
  for i, flow in ipairs(names) do
    local tag = tags[i] and tonumber(tags[i]) or FAR
    if tag ~= tonumber(rows[2 * i]) then
      redis.call('ZADD', lane_flows, 'XX', exact(tag), flow)
      lagged = true
    end
    if tag < FAR then
      table.insert(candidates, { flow = flow, tag = tag })
    end
  end
  table.sort(candidates, function(a, b)
    if a.tag ~= b.tag then
      return a.tag < b.tag
    end
    return a.flow < b.flow
  end)
  return candidates, lagged, #names == LOOKAHEAD and tonumber(rows[#rows]) or math.huge
end

-- A job that may ride along: its id and flow; nil where there is none.
local function rider(lane, batch_cost)
  for _ = 1, REFRESHES do
    local candidates, lagged, known_below = first_of(lane)
    for _, candidate in ipairs(candidates) do
      local flow, tag = candidate.flow, candidate.tag
      if tag > known_below then
        break
      end
      if tag < horizon + batch_cost / weight_of(flow) then
        local id = head_of(flow, lane)
        local head = redis.call('HMGET', key('job', id), 'n', 'lost')
        if images + tonumber(head[1] or 0) <= limit and not head[2] then
          return id, flow
        end
        horizon = math.min(horizon, tag)
      end
    end
    if not lagged then
      return nil
    end
  end
end

local function fill(lane, batch_cost)
  horizon = math.min(horizon, competitor_tag(lane))
  while images < limit and expired < EXPIRED_LIMIT do
    local id, flow = rider(lane, batch_cost)
    if not id then
      return
    end
    local job = live(id, flow, lane)
    if job then
      take(job)
    end
  end
end

-- What newcomers begin at: the least tag that waits; or, when nobody waits, where the busiest flow stands, so that
-- nothing is carried over from before an empty queue.
local function advance_virtual_time()
  local least = redis.call('ZRANGE', flows, 0, 0, 'WITHSCORES')
  if #least == 0 then
    least = redis.call('ZRANGE', key('finish', model), -1, -1, 'WITHSCORES')
  end
  redis.call('HSET', key('model', model), 'virtual_time', exact(tonumber(least[2])))
  redis.call('ZREMRANGEBYSCORE', key('finish', model), '-inf', exact(tonumber(least[2])))
end

local repeated = redis.call('LRANGE', key('receipt', receipt), 0, -1)
if #repeated > 0 then
  local jobs = {}
  for i = 1, #repeated, 2 do
    local job = leased(repeated[i], repeated[i + 1])
    if job then
      table.insert(jobs, job)
    end
  end
  model = jobs[1] and jobs[1].model or model
  return answer(jobs, 0)
end

local leader = lead()
if joined == '' then
  for i = FIRST_MODEL + 2, #ARGV, 2 do
    if leader then
      break
    end
    model, limit, flows = ARGV[i], tonumber(ARGV[i + 1]), key('flows', ARGV[i])
    leader = lead()
  end
elseif leader and (leader.lane ~= joined or leader.lost or tonumber(leader.n) > limit) then
  leader = nil
end
if leader then
  take(leader)
  -- A job that lost a worker is rendered alone: if it was to blame, it takes nobody with it.
  if images < limit and not leader.lost then
    fill(leader.lane, limit * tonumber(leader.cost) / tonumber(leader.n))
  end
  advance_virtual_time()
  for _, job in ipairs(claimed) do
    redis.call('RPUSH', key('receipt', receipt), job.id, job.attempt)
  end
  redis.call('PEXPIRE', key('receipt', receipt), lease)
end
return answer(claimed, leader and leader.lost and 0 or limit - images)
