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
-- ARGV[10…] ten arguments a job: id, model, lane, priority, images, cost, deadline in ms from now or '', webhook
--          events or '', price in millionths of a credit, spec as JSON
--
-- A job whose id is known already is left alone, so a call whose answer was lost may be made again: what was accepted
-- is neither counted nor paid for twice.
--
-- Answers {'lost'} where another worker has the batch, {'replayed', id of the job first made under the key}, {'mismatch'} where the key was used for another
-- request, or a verdict with its detail and where the account stands: requests of its rate, milliseconds of its rate,
-- requests left, milliseconds until all are back, most queued jobs, queued jobs, each '' where there is no such limit.
-- Verdicts are 'accepted', 'rate_limited' (detail: milliseconds until the next request), 'queue_full_account',
-- 'queue_full' and 'insufficient_credits' (detail: price of the first job that was not accepted, and the balance). With
-- any but the first, jobs that had room were accepted all the same.

local FIRST, FIELDS = 10, 10
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

local remembered = ARGV[2] ~= '' and key('idempotency', account, ARGV[2])
if remembered then
  local first = redis.call('HMGET', remembered, 'fingerprint', 'job')
  if first[1] and first[2] ~= ARGV[FIRST] and ARGV[7] ~= '1' then
    if first[1] == ARGV[3] then
      return { 'replayed', first[2] }
    end
    return { 'mismatch' }
  end
end

local fresh = {}
for at = FIRST, #ARGV, FIELDS do
  if redis.call('EXISTS', key('job', ARGV[at])) == 0 then
    table.insert(fresh, at)
  end
end

local limits = redis.call('HMGET', key('account', account), 'rate_requests', 'rate_period', 'max_queued', 'balance')
local rate, period, most_queued, balance = tonumber(limits[1] or nil), tonumber(limits[2] or nil), limits[3], limits[4]

-- The rate is a bucket of `rate` requests that fills in `period` milliseconds [GCRA]. `rate:<account>` holds when it
-- will be full. Times are fractions of milliseconds: a hair must not cost a request.
local HAIR = 0.01
local filling = 0
if rate then
  filling = math.max(0, tonumber(redis.call('GET', key('rate', account)) or 0) - now)
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
  local next_price = tonumber(ARGV[fresh[i] + 8])
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
  redis.call('HSET', remembered, 'fingerprint', ARGV[3], 'job', ARGV[FIRST])
  redis.call('PEXPIRE', remembered, ARGV[4])
end

local seq = redis.call('INCRBY', key('seq'), room) - room
local function accept(at)
  local job = {
    id = ARGV[at], account = account, model = ARGV[at + 1], lane = ARGV[at + 2], priority = ARGV[at + 3],
    cost = ARGV[at + 5], seq = integer(seq),
  }
  job.flow = account .. '/' .. job.priority
  redis.call('SET', key('spec', job.id), ARGV[at + 9])
  redis.call('HSET', key('job', job.id), 'account', account, 'model', job.model, 'lane', job.lane,
    'priority', job.priority, 'status', 'queued', 'stage', 'waiting', 'n', ARGV[at + 4], 'cost', job.cost,
    'seq', job.seq, 'created', integer(now))
  if ARGV[at + 6] ~= '' then
    local deadline = integer(now + tonumber(ARGV[at + 6]))
    redis.call('HSET', key('job', job.id), 'deadline', deadline)
    -- With the batch's own deadline it expires when its batch does: an entry each would be a tenth of its memory.
    if batch == '' or tonumber(deadline) < batch_expires - SAME_MS then
      redis.call('ZADD', key('deadlines'), deadline, job.id)
    end
  end
  if ARGV[at + 7] ~= '' then
    redis.call('HSET', key('job', job.id), 'hooks', ARGV[at + 7])
  end
  if ARGV[at + 8] ~= '0' then
    redis.call('HSET', key('job', job.id), 'price', ARGV[at + 8])
    if balance then
      redis.call('HSET', key('job', job.id), 'held', 1)
    end
  end
  if batch ~= '' then
    redis.call('HSET', key('job', job.id), 'batch', batch)
    redis.call('HINCRBY', key('batch', batch), 'open', 1)
  end
  redis.call('ZADD', key('jobs', account, 'queued'), job.seq, job.id)
  redis.call('SADD', key('models'), job.model)
  push(job)
end

for i = 1, room do
  seq = seq + 1
  accept(fresh[i])
end
return verdict(word, detail)
