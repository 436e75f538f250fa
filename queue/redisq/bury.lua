-- Drops dead letters of activities.
--
-- KEYS[18…]  a, b and r of each activity
-- ARGV[2…]   of each activity: ID, how many letters, their ordinals
-- RETURNS    how many were dropped
local dropped, at, keys = 0, 2, 18
while ARGV[at] do
  local act, id, count = new_activity(keys), ARGV[at], tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + count do
    local letter = id .. struct.pack('>I4', tonumber(ARGV[i]))
    if redis.call('ZREM', DEAD, letter) == 1 then
      redis.call('HDEL', LETTERS, letter)
      redis.call('LSET', act.r, ARGV[i], '')
      redis.call('HINCRBY', act.a, 'l', -1)
      redis.call('HINCRBY', STATS, 'dead', -1)
      dropped = dropped + 1
    end
  end
  local pending, letters = counts(act)
  if pending == 0 and letters == 0 and redis.call('EXISTS', act.r) == 1 then free(act, id) end
  at, keys = at + 2 + count, keys + 3
end
return dropped
