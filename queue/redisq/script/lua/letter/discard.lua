#!lua flags=allow-oom
-- Drops dead letters of activities.
--
-- USES place(total, signal), activity(new_activity, counts, free, letter_name, unfile)
-- KEYS.activities… a and r of each activity
-- ARGV.keep        how many letters stay at least in this partition
-- ARGV.dropped     whether they are dropped because there are too many
-- ARGV.activities… of each activity: ID, how many letters, their ordinals
-- RETURNS          how many were dropped
local dropped, at, keys = 0, ARGV.activities, KEYS.activities
local over = redis.call('ZCARD', DEAD) - ARGV.keep
while ARGV[at] do
  local act, id, n = new_activity(keys), ARGV[at], tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + n do
    if dropped < over and unfile(act, letter_name(id, tonumber(ARGV[i]))) then
      redis.call('LSET', act.r, ARGV[i], '')
      dropped = dropped + 1
    end
  end
  local pending, letters = counts(act)
  if pending == 0 and letters == 0 and redis.call('EXISTS', act.r) == 1 then free(act, id) end
  at, keys = at + 2 + n, keys + 2
end
if ARGV.dropped == '1' then total('dropped', dropped) end
signal()
return dropped
