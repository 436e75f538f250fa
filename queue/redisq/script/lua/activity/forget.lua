#!lua flags=allow-oom
-- Drops a finished activity, or keeps it for longer.
--
-- USES lane(now), marks(unmark), activity(new_activity, field, counts, let_body_go)
-- KEYS.activity×2 the activity's a and r
-- KEYS.marks×5    those of its marks, see marks.lua
-- ARGV.id         its ID
-- ARGV.ago        '' to drop it, else when it counts as finished: as many ms ago
-- ARGV.marks      its marks
-- RETURNS         1 if it was dropped
local act = new_activity(KEYS.activity)
local pending, letters = counts(act)
if pending > 0 or letters > 0 or ARGV.ago ~= '' then
  redis.call('ZADD', DONE, 'XX', now - (tonumber(ARGV.ago) or 0), ARGV.id)
  return 0
end
redis.call('ZREM', DONE, ARGV.id)
if field(act, 'p') then
  unmark(ARGV.id, ARGV.marks, KEYS.activity, KEYS.marks)
  redis.call('HINCRBY', STATS, 'activities', -1)
end
let_body_go(act)
redis.call('DEL', act.a, act.r)
return 1
