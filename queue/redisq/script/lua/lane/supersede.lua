#!lua flags=allow-oom
-- Counts deliveries that Take found superseded as cancelled.
--
-- USES feed(newly_fed), place(signal), activity(new_activity, newly_owed, finish, cancelled)
-- KEYS.activities… a and r of each activity
-- ARGV.activities… of each activity: how many deliveries, their names in OUTDATED, each with its ordinal
-- RETURNS          {how many were counted, how many entries were written to the feed, reports: see newly_owed}
local counted, at, keys = 0, ARGV.activities, KEYS.activities
while ARGV[at] do
  local act, last, before = new_activity(keys), at + 2 * ARGV[at], counted
  for i = at + 1, last, 2 do
    local inbox = redis.call('ZREM', OUTDATED, ARGV[i]) == 1 and redis.call('LINDEX', act.r, ARGV[i + 1]) or ''
    if inbox ~= '' and string.sub(inbox, 1, 1) ~= '!' then
      cancelled(act, ARGV[i + 1])
      counted = counted + 1
    end
  end
  if counted > before then finish(act) end
  at, keys = last + 1, keys + 2
end
signal()
return {counted, newly_fed(), newly_owed()}
