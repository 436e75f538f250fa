#!lua
-- Exchanges how signing keys are stored, each only if it still is stored as was read.
--
-- KEYS[FIRST] HASH of the keys, by the hash of their ID
-- ARGV[2…]    for each key: hash of its ID, what is stored, what is to be
-- RETURNS     how many are stored as they are to be; one that was exchanged before, by a call sent again, counts
local n = 0
for i = 2, #ARGV, 3 do
  local stored = redis.call('HGET', KEYS[FIRST], ARGV[i])
  if stored == ARGV[i + 1] then
    redis.call('HSET', KEYS[FIRST], ARGV[i], ARGV[i + 2])
    n = n + 1
  elseif stored == ARGV[i + 2] then
    n = n + 1
  end
end
return n
