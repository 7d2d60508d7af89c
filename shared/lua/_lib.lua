-- What the verbs share. Put before each of them when it is loaded, after the tables TRANSITIONS, PRIORITY_WEIGHT
-- and WEBHOOK_EVENT, which are made from shared/jobs.py, and the name of the broker's lists, from shared/tickets.py.
--
-- KEYS[1] is the prefix of every key. Keys are built here, so Redis Cluster is not supported. docs/redis.md
-- describes each key. Times are milliseconds of Redis's own clock.

local PREFIX = KEYS[1]

local function key(...)
  return PREFIX .. table.concat({ ... }, ':')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Lua would write a large number as 1.7e+12.
local function integer(number)
  return string.format('%.0f', number)
end

-- Virtual times need every digit of a double: a tag that loses its last ones would stop advancing.
local function exact(number)
  return string.format('%.17g', number)
end

-- ── Records ────────────────────────────────────────────────────────────────────────────────────────────────────

local function fields_of(flat)
  local record = {}
  for i = 1, #flat, 2 do
    record[flat[i]] = flat[i + 1]
  end
  return record
end

local function read_job(id)
  local flat = redis.call('HGETALL', key('job', id))
  if #flat == 0 then
    return nil
  end
  local job = fields_of(flat)
  job.id = id
  job.flow = job.account .. '/' .. job.priority
  return job
end

-- The event of a change goes to the job's stream, for those who follow it, and its id to the channel that wakes them. The
-- event of its end is its record: see `finish`.
local EVENTS_KEPT = 256 -- more than any job's progress reports; a stream must not grow with a job's retries

local function emit(job)
  redis.call('XADD', key('events', job.id), 'MAXLEN', EVENTS_KEPT, '*', 'status', job.status, 'stage', job.stage,
    'progress', job.progress or '0', 'attempt', job.attempt or '0')
  redis.call('PUBLISH', key('wake'), job.id)
end

-- Adds to one of the counters of a model: jobs `queued`, `delayed` and `running`, and `queued_cost`.
local function count(model, counter, by)
  redis.call('HINCRBY', key('model', model), counter, integer(by))
end

-- A cost in whole microseconds: sums of them come back to exactly zero.
local function micros(cost)
  return math.floor(tonumber(cost) * 1e6 + 0.5)
end

-- ── The fair queue ─────────────────────────────────────────────────────────────────────────────────────────────
-- A flow is an account with a priority. `flows:<model>` holds the flows that wait, each at its tag, its virtual
-- start time. A flow's jobs lie in one queue a lane, in the order of acceptance; `lanes:<model>:<flow>` holds its
-- lanes by their heads, and `lane:<model>:<lane>` the flows of a lane at tags that may lag behind, never lead.

local function queue_key(job)
  return key('queue', job.model, job.flow, job.lane)
end

local function tag_of(model, flow)
  local waiting = redis.call('ZSCORE', key('flows', model), flow)
  if waiting then
    return tonumber(waiting)
  end
  local virtual_time = tonumber(redis.call('HGET', key('model', model), 'virtual_time') or 0)
  local finish = tonumber(redis.call('ZSCORE', key('finish', model), flow) or 0)
  return math.max(virtual_time, finish)
end

local weights = {}
local function weight_of(flow)
  if not weights[flow] then
    local account, priority = string.match(flow, '^(.*)/(%a+)$')
    local weight = tonumber(redis.call('HGET', key('account', account), 'weight') or 1)
    weights[flow] = weight * PRIORITY_WEIGHT[priority]
  end
  return weights[flow]
end

-- An account may have most jobs running at once. The flows of one that has them all are held back: they wait in their
-- queues and lanes, but not in `flows`, so that claims neither see nor count them, however many there are.

local function running(account)
  return redis.call('ZCARD', key('jobs', account, 'running'))
end

local caps = {}
local function cap_of(account)
  if not caps[account] then
    caps[account] = tonumber(redis.call('HGET', key('account', account), 'max_running') or math.huge)
  end
  return caps[account]
end

local function is_capped(account)
  return cap_of(account) < math.huge and running(account) >= cap_of(account)
end

local function each_flow(account, visit)
  for _, model in ipairs(redis.call('SMEMBERS', key('models'))) do
    for priority in pairs(PRIORITY_WEIGHT) do
      visit(model, account .. '/' .. priority)
    end
  end
end

local function hold_back(account)
  each_flow(account, function(model, flow)
    redis.call('ZREM', key('flows', model), flow)
  end)
end

-- Lanes of a flow whose tags are put right when it comes back; in further ones it rides again once it has led.
local LANES_RESTORED = 8

-- It comes back at the virtual time, if that has passed it: what its cap kept from it is not made up for.
local function let_in(account)
  each_flow(account, function(model, flow)
    local lanes = redis.call('ZRANGE', key('lanes', model, flow), 0, LANES_RESTORED - 1)
    if #lanes > 0 then
      local tag = exact(tag_of(model, flow))
      redis.call('ZADD', key('flows', model), 'NX', tag, flow)
      for _, lane in ipairs(lanes) do
        redis.call('ZADD', key('lane', model, lane), 'XX', tag, flow)
      end
    end
  end)
end

-- Puts jobs that share a queue into it: `like` is one of them, or what they share; `scored` the sequence number and id
-- of each in turn; `cost` what they cost together, in microseconds.
local function push(like, scored, cost)
  local queue = queue_key(like)
  local tag = exact(tag_of(like.model, like.flow))
  redis.call('ZADD', queue, unpack(scored))
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  redis.call('ZADD', key('lanes', like.model, like.flow), head[2], like.lane)
  if not is_capped(like.account) then
    redis.call('ZADD', key('flows', like.model), 'NX', tag, like.flow)
  end
  redis.call('ZADD', key('lane', like.model, like.lane), 'NX', tag, like.flow)
  count(like.model, 'queued', #scored / 2)
  count(like.model, 'queued_cost', cost)
end

local function push_one(job)
  push(job, { job.seq, job.id }, micros(job.cost))
end

local function pull(job)
  local queue = queue_key(job)
  redis.call('ZREM', queue, job.id)
  count(job.model, 'queued', -1)
  count(job.model, 'queued_cost', 0 - micros(job.cost))
  local lanes = key('lanes', job.model, job.flow)
  local head = redis.call('ZRANGE', queue, 0, 0, 'WITHSCORES')
  if #head > 0 then
    redis.call('ZADD', lanes, head[2], job.lane)
    return
  end
  redis.call('ZREM', lanes, job.lane)
  redis.call('ZREM', key('lane', job.model, job.lane), job.flow)
  if redis.call('EXISTS', lanes) == 0 then
    redis.call('ZREM', key('flows', job.model), job.flow)
  end
end

-- Jobs that a worker could claim now: none where each that waits is its account's, and the account is held back.
local function claimable(model)
  if redis.call('EXISTS', key('flows', model)) == 0 then
    return 0
  end
  return tonumber(redis.call('HGET', key('model', model), 'queued') or 0)
end

-- The broker's list is the count of tickets that wait. Told with the work that waits, it spares a worker a question.
local function render_tickets(model)
  return redis.call('LLEN', RENDER_QUEUE .. model)
end

-- ── Changes of state ───────────────────────────────────────────────────────────────────────────────────────────
-- A job that is not finished is in exactly one place: `leases` when it runs, `delayed` while it waits for its retry,
-- its queue otherwise.

local function leave(job)
  if job.status == 'running' then
    redis.call('ZREM', key('leases'), job.id)
    redis.call('HDEL', key('job', job.id), 'worker')
    count(job.model, 'running', -1)
  elseif job.stage == 'retrying' then
    redis.call('ZREM', key('delayed'), job.id)
    count(job.model, 'delayed', -1)
  else
    pull(job)
  end
  if job.deadline then
    -- Met by starting, or void: a job that started once is never expired.
    redis.call('ZREM', key('deadlines'), job.id)
    redis.call('HDEL', key('job', job.id), 'deadline')
    job.deadline = nil
  end
end

-- Takes a job out of its place and gives it another status, and further fields. The caller finds it a new place.
local function move(job, status, stage, ...)
  assert(TRANSITIONS[job.status][status], job.id .. ' cannot go from ' .. job.status .. ' to ' .. status)
  leave(job)
  redis.call('ZREM', key('jobs', job.account, job.status), job.id)
  redis.call('ZADD', key('jobs', job.account, status), job.seq, job.id)
  if job.status == 'running' and running(job.account) == cap_of(job.account) - 1 then
    let_in(job.account)
  end
  job.status, job.stage = status, stage
  redis.call('HSET', key('job', job.id), 'status', status, 'stage', stage, ...)
end

-- ── The end of a job ───────────────────────────────────────────────────────────────────────────────────────────

-- Senders of webhooks sleep on a list. What lies there is a wake-up and names no delivery: whoever takes it sends what is
-- due until nothing is. So a few are enough for any number of deliveries, and one that is lost costs the time until the
-- next sweep.
local MOST_WAKE_UPS = 64 -- more than the threads of a few upkeep workers

local function wake_ups()
  return redis.call('LLEN', key('wake_ups'))
end

local function wake_sender()
  if wake_ups() < MOST_WAKE_UPS then
    redis.call('RPUSH', key('wake_ups'), '')
  end
end

-- `job` may be a batch as well: whatever has an id, an account and the status that the message is about.
local function add_delivery(job, event, endpoint)
  local id = 'msg_' .. string.match(job.id, '_(.*)') .. '_' .. job.status
  if endpoint ~= '' then
    id = id .. '_' .. endpoint
  end
  redis.call('HSET', key('delivery', id), 'job', job.id, 'account', job.account, 'event', event,
    'endpoint', endpoint, 'status', 'pending', 'attempts', 0, 'created', integer(now))
  redis.call('ZADD', key('deliveries', job.account), integer(now), id)
  redis.call('ZADD', key('due'), integer(now), id)
  wake_sender()
end

local function add_endpoint_deliveries(job, event)
  local endpoints = redis.call('HGETALL', key('endpoints', job.account))
  for i = 1, #endpoints, 2 do
    if string.find(endpoints[i + 1], event, 1, true) then
      add_delivery(job, event, endpoints[i])
    end
  end
end

-- Pays for a job that ends, and counts it. A job's `price`, in millionths of a credit, was taken from the balance when
-- it was accepted, if its account had one, and is `held` until now: charged for pictures, else given back. An account
-- whose balance was taken away meanwhile, and so need not pay, is given nothing.
local DAY_MS = 86400000
local USAGE_KEPT_S = 92 * 86400 -- a whole quarter

local function settle(job)
  local account, usage = key('account', job.account), key('usage', job.account, integer(math.floor(now / DAY_MS)))
  if job.price then
    if job.held then
      redis.call('HINCRBY', account, 'reserved', '-' .. job.price)
    end
    if job.status == 'succeeded' then
      redis.call('HINCRBY', account, 'charged', job.price)
      redis.call('HINCRBY', usage, 'credits/' .. job.model, job.price)
    else
      if job.held and redis.call('HEXISTS', account, 'balance') == 1 then
        redis.call('HINCRBY', account, 'balance', job.price)
      end
      redis.call('HDEL', key('job', job.id), 'price')
    end
    redis.call('HDEL', key('job', job.id), 'held')
  end
  redis.call('HINCRBY', usage, job.status .. '/' .. job.model, 1)
  if job.status == 'succeeded' then
    redis.call('HINCRBY', usage, 'images/' .. job.model, job.n)
  end
  redis.call('EXPIRE', usage, USAGE_KEPT_S)
end

local function add_deliveries(job)
  local event = WEBHOOK_EVENT[job.status]
  if string.find(job.hooks or '', event, 1, true) then
    add_delivery(job, event, '')
  end
  add_endpoint_deliveries(job, event)
end

-- Counts a finished job for its batch; whether the batch is due to be finalized, for this was the last.
local function count_for_batch(job, status)
  local batch, is_last = key('batch', job.batch), false
  if redis.call('EXISTS', batch) == 0 then
    return false -- it failed while its jobs ran, and is past its retention
  end
  redis.call('HINCRBY', batch, 'jobs_' .. status, 1)
  redis.call('RPUSH', key('batch_finished', job.batch), job.id)
  local open = redis.call('HINCRBY', batch, 'open', -1)
  if open == 0 and redis.call('HEXISTS', batch, 'ingested') == 1 then
    redis.call('ZADD', key('batches_due'), integer(now), job.batch)
    is_last = true
  end
  redis.call('PUBLISH', key('wake'), job.batch)
  return is_last
end

-- Makes the job terminal: record, index, credits, webhook deliveries, batch and retention in one step. `result`
-- is JSON, or nil where there is nothing to tell.
local function finish(job, status, result)
  if status == 'succeeded' then
    job.progress = '1'
  end
  move(job, status, 'done', 'finished', integer(now), 'progress', job.progress or '0')
  if result then
    redis.call('SET', key('result', job.id), result)
  end
  settle(job)
  redis.call('HINCRBY', key('finished'), status .. '/' .. job.model, 1)
  redis.call('ZADD', key('retained'), integer(now), job.id)
  local attempt = tonumber(job.attempt or 0)
  if attempt > 1 or (attempt == 1 and status ~= 'succeeded') then
    -- Attempts that did not win may have left objects behind; upkeep sweeps them.
    redis.call('SADD', key('litter'), job.id)
  end
  -- What came before is of no use to a follower who is told the end, and the shortest stream takes five times what a
  -- queued job does.
  redis.call('DEL', key('events', job.id))
  redis.call('PUBLISH', key('wake'), job.id)
  job.ends_batch = job.batch and count_for_batch(job, status)
  add_deliveries(job)
end

-- What every verb that may end a job, or an attempt, answers of it: {its status, jobs of its model that could be claimed
-- now, tickets that lie for them, 1 where it was the last of its batch, milliseconds by which it succeeded later than its
-- owner was told at first, or '' where nobody asked}.
local function aftermath(job)
  local late = job.status == 'succeeded' and job.eta and integer(now - tonumber(job.eta)) or ''
  return { job.status, claimable(job.model), render_tickets(job.model), job.ends_batch and 1 or 0, late }
end

-- Puts a running job back, at its old place in its queue; after `delay` milliseconds where that is positive.
local function requeue(job, delay)
  job.progress = '0'
  move(job, 'queued', delay > 0 and 'retrying' or 'waiting', 'progress', 0)
  if delay > 0 then
    redis.call('ZADD', key('delayed'), integer(now + delay), job.id)
    count(job.model, 'delayed', 1)
  else
    push_one(job)
  end
  emit(job)
end

-- The running job that a worker's write is about, or nil where its lease is no longer the worker's: the attempt
-- number is the fencing token.
local function leased(id, attempt)
  local job = read_job(id)
  if job and job.status == 'running' and job.attempt == attempt then
    return job
  end
  return nil
end

local function attempts_charged(job)
  return tonumber(job.attempt) - tonumber(job.releases or 0)
end

local function failure(code, message)
  return cjson.encode({ error = { code = code, message = message } })
end
