#!lua flags=allow-oom
-- Takes back what is staged of an activity that was not committed.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3]       what is staged
-- ARGV[2]             the activity's ID
-- RETURNS             1
local act = new_activity(FIRST)
if redis.call('ZREM', STAGED, ARGV[2]) == 0 then return 1 end
local staged, home = counts(act), field(act, 'p')
redis.call('ZREM', EXPIRES, ARGV[2])
redis.call('ZREM', PENDING, ARGV[2])
forget_uri(act)
forget_among('o' .. field(act, 'o'), ARGV[2])
redis.call('HINCRBY', STATS, 'pending', 0 - staged) -- a zero must not be negative
if home then redis.call('HINCRBY', STATS, 'activities', -1) end
redis.call('DEL', act.a, act.b, act.r, KEYS[FIRST + 3])
return 1
