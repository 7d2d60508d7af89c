-- What was made under an idempotency key. Put before the verbs that make something.
--
-- Under such a key an account makes one job, batch or file. Keys begin with routes, so kinds do not meet in one.

local function idempotency_key(account, given)
  return given ~= '' and key('idempotency', account, given)
end

-- What a call is answered that is to make another than `id` under a key which has made one: {'replayed', that one's id},
-- or {'mismatch'} where that was another request; and that one's id. Nil where the call is to go on, for it is the first,
-- or the first made again, or with `anew` '1' an earlier use is forgotten.
local function made_before(remembered, kind, id, fingerprint, anew)
  local first = redis.call('HMGET', remembered, 'fingerprint', kind)
  if not first[1] or first[2] == id or anew == '1' then
    return nil
  end
  return first[1] == fingerprint and { 'replayed', first[2] } or { 'mismatch' }, first[2]
end

local function remember(remembered, kind, id, fingerprint, milliseconds)
  redis.call('HSET', remembered, 'fingerprint', fingerprint, kind, id)
  redis.call('PEXPIRE', remembered, milliseconds)
end
