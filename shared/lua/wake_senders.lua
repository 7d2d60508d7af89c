-- Wakes senders of webhooks, one for each that is due, less those whose wake-up lies there still. Whatever makes a
-- delivery wakes a sender itself; this is for those that have become due since, and for wake-ups that were lost.
--
-- Takes no arguments and answers nothing.

local due = redis.call('ZCOUNT', key('due'), '-inf', integer(now))
for _ = wake_ups() + 1, math.min(due, MOST_WAKE_UPS) do
  wake_sender()
end
