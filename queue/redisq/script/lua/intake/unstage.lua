#!lua flags=allow-oom
-- Takes back what is staged of an activity that was not committed.
--
-- USES marks(unmark), activity(new_activity, field, signs, counts, forget_staged, let_body_go)
-- KEYS.activity×2 the activity's a and r
-- KEYS.marks×5    those of its marks, see marks.lua
-- KEYS.staging    what is staged
-- ARGV.id         the activity's ID
-- ARGV.claim      the claim under which it is staged, '' for any: it may be on its way in again
-- ARGV.marks      its marks
-- RETURNS         1
local act = new_activity(KEYS.activity)
if ARGV.claim ~= '' and field(act, 's') ~= ARGV.claim then return 1 end
if redis.call('ZREM', STAGED, ARGV.id) == 0 then return 1 end
local staged, home = counts(act), field(act, 'p')
redis.call('ZREM', EXPIRES, ARGV.id)
redis.call('ZREM', PENDING, ARGV.id)
forget_staged(field(act, 'o'), ARGV.id)
let_body_go(act)
redis.call('HINCRBY', STATS, 'pending', 0 - staged) -- a zero must not be negative
signs(field(act, 'k'), 0 - staged)
if home then
  unmark(ARGV.id, ARGV.marks, KEYS.activity, KEYS.marks)
  redis.call('HINCRBY', STATS, 'activities', -1)
end
redis.call('DEL', act.a, act.r, KEYS.staging)
return 1
