-- Takes the webhook delivery that is due for longest. It stays due again after the lease, so one whose sender dies is sent
-- again.
--
-- ARGV[1]  milliseconds until it is due again unless recorded
--
-- Answers nothing where none is due; otherwise everything that its sender asks, as all of it is at this moment: {id, its
-- record, its endpoint's record, its account's webhook secret, the secret before that while it is valid, the job's or
-- batch's record, a job's spec, its result, {id and record of each of its images}, {those of them that are published}}.
-- A record is fields and values in turn, and empty where there is none; texts that do not exist are ''.

local function due()
  return redis.call('ZRANGEBYSCORE', key('due'), '-inf', integer(now), 'LIMIT', 0, 1)[1]
end

local id, record = due(), {}
while id do
  record = redis.call('HGETALL', key('delivery', id))
  if #record > 0 then
    break
  end
  -- Only a hand can have removed its record.
  redis.call('ZREM', key('due'), id)
  id = due()
end
if not id then
  return {}
end
redis.call('ZADD', key('due'), integer(now + tonumber(ARGV[1])), id)

local delivery = fields_of(record)
local answer = {
  id,
  record,
  delivery.endpoint == '' and {} or redis.call('HGETALL', key('endpoint', delivery.endpoint)),
  redis.call('HGET', key('account', delivery.account), 'webhook_secret') or '',
  redis.call('GET', key('old_webhook_secret', delivery.account)) or '',
}
if string.find(delivery.job, '^batch_') then
  table.insert(answer, redis.call('HGETALL', key('batch', delivery.job)))
  return answer
end

local result = redis.call('GET', key('result', delivery.job)) or ''
local images, published = {}, {}
for _, image in ipairs(result ~= '' and cjson.decode(result).images or {}) do
  local text = redis.call('GET', key('image', image))
  if text then
    table.insert(images, image)
    table.insert(images, text)
  end
  if redis.call('SISMEMBER', key('published'), image) == 1 then
    table.insert(published, image)
  end
end
for _, part in ipairs({
  redis.call('HGETALL', key('job', delivery.job)),
  redis.call('GET', key('spec', delivery.job)) or '',
  result,
  images,
  published,
}) do
  table.insert(answer, part)
end
return answer
