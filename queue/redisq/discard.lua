#!lua flags=allow-oom
-- Drops dead letters of activities.
--
-- KEYS[FIRST…] a, b and r of each activity
-- ARGV[2]      how many letters stay at least in this partition
-- ARGV[3]      whether they are dropped because there are too many
-- ARGV[4…]     of each activity: ID, how many letters, their ordinals
-- RETURNS      how many were dropped
local dropped, at, keys = 0, 4, FIRST
local over = redis.call('ZCARD', DEAD) - ARGV[2]
while ARGV[at] do
  local act, id, count = new_activity(keys), ARGV[at], tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + count do
    if dropped < over and unfile(act, letter_name(id, tonumber(ARGV[i]))) then
      redis.call('LSET', act.r, ARGV[i], '')
      dropped = dropped + 1
    end
  end
  local pending, letters = counts(act)
  if pending == 0 and letters == 0 and redis.call('EXISTS', act.r) == 1 then free(act, id) end
  at, keys = at + 2 + count, keys + 3
end
if ARGV[3] == '1' then total('dropped', dropped) end
signal()
return dropped
