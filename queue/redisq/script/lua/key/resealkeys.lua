#!lua
-- Exchanges how signing keys are stored, each only if it still is stored as was read.
--
-- ARGV.changes… for each key: hash of its name, what is stored, what is to be
-- RETURNS       how many are stored as they are to be; one that was exchanged before, by a call sent again, counts
local n = 0
for i = ARGV.changes, #ARGV, 3 do
  local hash, old, new = unpack(ARGV, i, i + 2)
  local stored = redis.call('HGET', KEYS.keys, hash)
  if stored == old then
    redis.call('HSET', KEYS.keys, hash, new)
    n = n + 1
  elseif stored == new then
    n = n + 1
  end
end
return n
