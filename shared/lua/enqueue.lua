-- Accepts jobs, all of one account: in their order, as many as its limits and the farm's have room for.
--
-- ARGV[1]  account
-- ARGV[2]  idempotency key, or '' (then there is one job only)
-- ARGV[3]  fingerprint of the request under that key
-- ARGV[4]  milliseconds for which the idempotency key is remembered
-- ARGV[5]  requests that this call counts as against the account's rate: 1, or 0 for jobs of a batch
-- ARGV[6]  most queued jobs of the whole farm; 0 for no bound
-- ARGV[7]  '1' where an earlier use of the idempotency key is forgotten: this is a first request that may be repeated
-- ARGV[8]  the batch they belong to, or ''
-- ARGV[9]  fence of the claim on that batch
-- ARGV[10] live workers of its model, where the client of its one job is to be told where it stands; else ''
-- ARGV[11] number of kinds of job: the jobs of a kind differ in nothing but their ids and specs
-- then     eight arguments a kind: model, lane, priority, images, cost, deadline in ms from now or '', webhook events
--          or '', price in millionths of a credit
-- then     three arguments a job: id, its kind, counted from 1, and spec as JSON. A thousand jobs at most: Lua hands no
--          more than 8,000 values to one command.
--
-- A job whose id is known already is left alone, so a call whose answer was lost may be made again: what was accepted
-- is neither counted nor paid for twice.
--
-- Answers {'lost'} where another worker has the batch, {'replayed', id of the job first made under the key},
-- {'mismatch'} where the key was used for another request, or a verdict with its detail and where the account stands:
-- requests of its rate, milliseconds of its rate, requests left, milliseconds until all are back, most queued jobs,
-- queued jobs, each '' where there is no such limit.
-- Verdicts are 'accepted', 'rate_limited' (detail: milliseconds until the next request), 'queue_full_account',
-- 'queue_full' and 'insufficient_credits' (detail: price of the first job that was not accepted, and the balance). With
-- any but the first, jobs that had room were accepted all the same.
-- Where ARGV[10] is given and this very call accepted the job, there follows what its client is told and who wakes a
-- worker needs to know: when it was accepted, jobs of its model that could be claimed, tickets that lie for them, and the
-- answer of `position`.

local KINDS, KIND_FIELDS = 12, 8 -- where they begin, and how many arguments each has
local JOBS, JOB_FIELDS = KINDS + tonumber(ARGV[11]) * KIND_FIELDS, 3
local SAME_MS = 1000 -- deadlines as close as this are the same
local account, requests, batch = ARGV[1], tonumber(ARGV[5]), ARGV[8]

local batch_expires = 0
if batch ~= '' then
  local record = redis.call('HMGET', key('batch', batch), 'fence', 'expires')
  if record[1] ~= ARGV[9] then
    return { 'lost' }
  end
  batch_expires = tonumber(record[2])
end

local remembered = idempotency_key(account, ARGV[2])
local earlier = remembered and made_before(remembered, 'job', ARGV[JOBS], ARGV[3], ARGV[7])
if earlier then
  return earlier
end

local JOB_KEY, SPEC_KEY = key('job', ''), key('spec', '')

-- Where in ARGV the jobs begin that are not known yet, each of them once.
local function fresh_jobs()
  local names, fresh, seen = {}, {}, {}
  for at = JOBS, #ARGV, JOB_FIELDS do
    names[#names + 1] = JOB_KEY .. ARGV[at]
  end
  local all_fresh = redis.call('EXISTS', unpack(names)) == 0
  for i, name in ipairs(names) do
    if not seen[name] and (all_fresh or redis.call('EXISTS', name) == 0) then
      fresh[#fresh + 1] = JOBS + (i - 1) * JOB_FIELDS
    end
    seen[name] = true
  end
  return fresh
end

local fresh = fresh_jobs()

local limits = redis.call('HMGET', key('account', account), 'rate_requests', 'rate_period', 'max_queued', 'balance')
local rate, period, most_queued, balance = tonumber(limits[1] or nil), tonumber(limits[2] or nil), limits[3], limits[4]

-- The rate is a bucket of `rate` requests that fills in `period` milliseconds [GCRA]. `rate:<account>` holds when it
-- will be full. Times are fractions of milliseconds: a hair must not cost a request.
local HAIR = 0.01
local filling = 0
if rate then
  filling = math.max(0, tonumber(redis.call('GET', key('rate', account)) or 0) - now)
end

local function append(list, first, second)
  list[#list + 1] = first
  list[#list + 1] = second
end

-- A kind by its number, with those of its jobs that were accepted: what they share is written once for all of them.
local kinds = {}
local function kind_of(number)
  local kind = kinds[number]
  if kind then
    return kind
  end
  local at = KINDS + (number - 1) * KIND_FIELDS
  local model, lane, priority, n, cost, left_ms, hooks, price = unpack(ARGV, at, at + KIND_FIELDS - 1)
  kind = {
    account = account, model = model, lane = lane, flow = account .. '/' .. priority,
    cost = micros(cost), price = tonumber(price), scored = {}, deadline = nil,
    record = { 'account', account, 'model', model, 'lane', lane, 'priority', priority, 'status', 'queued',
      'stage', 'waiting', 'n', n, 'cost', cost, 'created', integer(now) },
  }
  if left_ms ~= '' then
    local deadline = integer(now + tonumber(left_ms))
    append(kind.record, 'deadline', deadline)
    -- With the batch's own deadline it expires when its batch does: an entry each would be a tenth of its memory.
    if batch == '' or tonumber(deadline) < batch_expires - SAME_MS then
      kind.deadline = deadline
    end
  end
  if hooks ~= '' then
    append(kind.record, 'hooks', hooks)
  end
  if price ~= '0' then
    append(kind.record, 'price', price)
    if balance then
      append(kind.record, 'held', 1)
    end
  end
  if batch ~= '' then
    append(kind.record, 'batch', batch)
  end
  kinds[number] = kind
  return kind
end

local function verdict(word, detail)
  local left, full_in = '', ''
  if rate then
    left, full_in = integer(math.floor((period - filling + HAIR) * rate / period)), integer(math.ceil(filling))
  end
  return { word, detail or '', limits[1] or '', limits[2] or '', left, full_in, most_queued or '',
    most_queued and integer(redis.call('ZCARD', key('jobs', account, 'queued'))) or '' }
end

-- Jobs that the farm has not begun, those that wait for a retry among them.
local function queued_in_farm()
  local queued = 0
  for _, model in ipairs(redis.call('SMEMBERS', key('models'))) do
    local counts = redis.call('HMGET', key('model', model), 'queued', 'delayed')
    queued = queued + tonumber(counts[1] or 0) + tonumber(counts[2] or 0)
  end
  return queued
end

if #fresh == 0 then
  return verdict('accepted')
end
if rate and filling + requests * period / rate > period + HAIR then
  return verdict('rate_limited', integer(math.ceil(filling + requests * period / rate - period)))
end

-- How many of them have room, what they cost, and what stands against the next one.
local room, price, word, detail = #fresh, 0, 'accepted', nil
local function bound(most, queued, refusal)
  if queued + room > most then
    room, word = math.max(0, most - queued), refusal
  end
end
if most_queued then
  bound(tonumber(most_queued), redis.call('ZCARD', key('jobs', account, 'queued')), 'queue_full_account')
end
if tonumber(ARGV[6]) > 0 then
  bound(tonumber(ARGV[6]), queued_in_farm(), 'queue_full')
end
for i = 1, room do
  local next_price = kind_of(ARGV[fresh[i] + 1]).price
  if balance and price + next_price > tonumber(balance) then
    room, word = i - 1, 'insufficient_credits'
    detail = integer(next_price) .. ' ' .. integer(tonumber(balance) - price)
    break
  end
  price = price + next_price
end
if room == 0 then
  return verdict(word, detail)
end

if rate and requests > 0 then
  filling = filling + requests * period / rate
  redis.call('SET', key('rate', account), exact(now + filling), 'PX', integer(math.ceil(filling)))
end
if balance and price > 0 then
  redis.call('HINCRBY', key('account', account), 'balance', integer(0 - price))
  redis.call('HINCRBY', key('account', account), 'reserved', integer(price))
end
if remembered then
  remember(remembered, 'job', ARGV[JOBS], ARGV[3], ARGV[4])
end

local seq = redis.call('INCRBY', key('seq'), room) - room
local specs, inputs, indexed, deadlines = {}, {}, {}, {}
for i = 1, room do
  local id, number, spec = unpack(ARGV, fresh[i], fresh[i] + JOB_FIELDS - 1)
  local kind, place = kind_of(number), integer(seq + i)
  redis.call('HSET', JOB_KEY .. id, 'seq', place, unpack(kind.record))
  append(specs, SPEC_KEY .. id, spec)
  inputs[i] = 'inputs/' .. id .. '/'
  append(indexed, place, id)
  append(kind.scored, place, id)
  if kind.deadline then
    append(deadlines, kind.deadline, id)
  end
end
redis.call('MSET', unpack(specs))
if redis.call('EXISTS', key('unclaimed')) == 1 then
  -- The records are there that lead to their pictures.
  redis.call('ZREM', key('unclaimed'), unpack(inputs))
end
redis.call('ZADD', key('jobs', account, 'queued'), unpack(indexed))
if #deadlines > 0 then
  redis.call('ZADD', key('deadlines'), unpack(deadlines))
end
if batch ~= '' then
  redis.call('HINCRBY', key('batch', batch), 'open', room)
end
for _, kind in pairs(kinds) do
  local accepted = #kind.scored / 2
  if accepted > 0 then
    redis.call('SADD', key('models'), kind.model)
    push(kind, kind.scored, accepted * kind.cost)
  end
end

local answer = verdict(word, detail)
if ARGV[10] ~= '' then
  local job = read_job(ARGV[JOBS])
  local told = { integer(now), claimable(job.model), render_tickets(job.model), standing(job, tonumber(ARGV[10])) }
  for _, value in ipairs(told) do
    table.insert(answer, value)
  end
end
return answer
