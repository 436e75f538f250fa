#!lua flags=allow-oom
-- Commits a submission that is stored in steps, or gives it up. This is the moment that decides: what is staged is
-- released from now on, or taken back.
--
-- KEYS[FIRST] the claim
-- ARGV[2]     the activity's ID
-- ARGV[3]     '' to give it up, else what the client wants back from the receipt
-- ARGV[4…6]   accepted, duplicates, refused
-- ARGV[7]     how long the claim lasts, in ms: for long, as Sweep asks it about what is still staged
-- RETURNS     1, or 0 if it is too late for that: the claim has lapsed or, to give it up, was committed
local claim = redis.call('HMGET', KEYS[FIRST], 's', 'i')
if claim[2] == ARGV[2] then return ARGV[3] == '' and 0 or 1 end
if claim[1] ~= ARGV[2] then return 0 end
if ARGV[3] == '' then
  redis.call('DEL', KEYS[FIRST])
else
  redis.call('HDEL', KEYS[FIRST], 's')
  redis.call('HSET', KEYS[FIRST], 'i', ARGV[2], 'h', ARGV[3], 'n', ARGV[4], 'd', ARGV[5], 'x', ARGV[6])
  redis.call('PEXPIRE', KEYS[FIRST], ARGV[7])
end
return 1
