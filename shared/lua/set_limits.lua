-- Changes what an account may do, and its balance.
--
-- ARGV[1]  account
-- ARGV[2]  a name for this very call: should its answer be lost, the same call made again changes nothing
-- ARGV[3…] two arguments a change: a field of the account's record (`max_queued`, `max_running`, `rate_requests`,
--          `rate_period`, `balance`) and its value, '' to take it away; or `top_up`, and what is added to the balance
--
-- Answers 1, or 0 where there is no such account.

local RECEIPT_KEPT_S = 600 -- longer than any client tries again

local account = ARGV[1]
if redis.call('SISMEMBER', key('accounts'), account) == 0 then
  return 0
end
if not redis.call('SET', key('receipt', ARGV[2]), 1, 'NX', 'EX', RECEIPT_KEPT_S) then
  return 1
end
local name = key('account', account)
for at = 3, #ARGV, 2 do
  if ARGV[at] == 'top_up' then
    redis.call('HINCRBY', name, 'balance', ARGV[at + 1])
  elseif ARGV[at + 1] == '' then
    redis.call('HDEL', name, ARGV[at])
  else
    redis.call('HSET', name, ARGV[at], ARGV[at + 1])
  end
  if ARGV[at] == 'rate_requests' then
    -- What was counted at the old rate says nothing at the new one.
    redis.call('DEL', key('rate', account))
  end
end
if is_capped(account) then
  hold_back(account)
else
  let_in(account)
end
return 1
