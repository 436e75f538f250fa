#!lua flags=allow-oom
-- Drops a finished activity, or keeps it for longer.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- ARGV[2]             its ID
-- ARGV[3]             '' to drop it, else when it counts as finished: as many ms ago
-- RETURNS             1 if it was dropped
local act = new_activity(FIRST)
local pending, letters = counts(act)
if pending > 0 or letters > 0 or ARGV[3] ~= '' then
  redis.call('ZADD', DONE, 'XX', now - (tonumber(ARGV[3]) or 0), ARGV[2])
  return 0
end
redis.call('ZREM', DONE, ARGV[2])
if field(act, 'p') then redis.call('HINCRBY', STATS, 'activities', -1) end
redis.call('DEL', act.a, act.b, act.r)
return 1
