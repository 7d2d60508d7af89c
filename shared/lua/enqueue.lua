-- Accepts jobs, all of one account.
--
-- ARGV[1]  account
-- ARGV[2]  idempotency key, or '' (then there is one job only)
-- ARGV[3]  fingerprint of the request under that key
-- ARGV[4]  milliseconds for which the idempotency key is remembered
-- ARGV[5]  the batch they belong to, or ''
-- ARGV[6]  fence of the claim on that batch
-- ARGV[7…] nine arguments a job: id, model, lane, priority, images, cost, deadline in ms from now or '', webhook
--          events or '', spec as JSON
--
-- A job whose id is known already is left alone, so a call whose answer was lost may be made again.
--
-- Answers {'accepted'}, {'replayed', id of the job first made under the key}, or {'mismatch'} where the key was
-- used for another request, or {'lost'} where another worker has the batch.

local FIELDS, FIRST = 9, 7
local SAME_MS = 1000 -- deadlines as close as this are the same
local account, batch = ARGV[1], ARGV[5]

local batch_expires = 0
if batch ~= '' then
  local record = redis.call('HMGET', key('batch', batch), 'fence', 'expires')
  if record[1] ~= ARGV[6] then
    return { 'lost' }
  end
  batch_expires = tonumber(record[2])
end

if ARGV[2] ~= '' then
  local remembered = key('idempotency', account, ARGV[2])
  local first = redis.call('HMGET', remembered, 'fingerprint', 'job')
  if first[1] and first[2] ~= ARGV[FIRST] then
    if first[1] == ARGV[3] then
      return { 'replayed', first[2] }
    end
    return { 'mismatch' }
  end
  redis.call('HSET', remembered, 'fingerprint', ARGV[3], 'job', ARGV[FIRST])
  redis.call('PEXPIRE', remembered, ARGV[4])
end

local jobs = (#ARGV - FIRST + 1) / FIELDS
local seq = redis.call('INCRBY', key('seq'), jobs) - jobs
local function accept(at)
  local job = {
    id = ARGV[at], account = account, model = ARGV[at + 1], lane = ARGV[at + 2], priority = ARGV[at + 3],
    cost = ARGV[at + 5], seq = integer(seq),
  }
  job.flow = account .. '/' .. job.priority
  redis.call('SET', key('spec', job.id), ARGV[at + 8])
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
  if batch ~= '' then
    redis.call('HSET', key('job', job.id), 'batch', batch)
  end
  redis.call('ZADD', key('jobs', account, 'queued'), job.seq, job.id)
  redis.call('SADD', key('models'), job.model)
  push(job)
end

local accepted = 0
for at = FIRST, #ARGV, FIELDS do
  seq = seq + 1
  if redis.call('EXISTS', key('job', ARGV[at])) == 0 then
    accept(at)
    accepted = accepted + 1
  end
end
if batch ~= '' then
  redis.call('HINCRBY', key('batch', batch), 'open', accepted)
end
return { 'accepted' }
