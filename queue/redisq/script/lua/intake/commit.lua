#!lua flags=allow-oom
-- Commits a submission that is stored in steps, or gives it up. This is the moment that decides: what is staged is
-- released from now on, or taken back.
--
-- KEYS.claim      the claim
-- ARGV.id         the activity's ID
-- ARGV.head       '' to give it up, else what the client wants back from the receipt
-- ARGV.accepted   how many deliveries were accepted
-- ARGV.duplicates how many were duplicates
-- ARGV.refused    what was refused
-- ARGV.ttl        how long the claim lasts, in ms: for long, as Sweep asks it about what is still staged
-- RETURNS         1, or 0 if it is too late for that: the claim has lapsed or, to give it up, was committed
local claim = redis.call('HMGET', KEYS.claim, 's', 'i')
if claim[2] == ARGV.id then return ARGV.head == '' and 0 or 1 end
if claim[1] ~= ARGV.id then return 0 end
if ARGV.head == '' then
  redis.call('DEL', KEYS.claim)
else
  redis.call('HDEL', KEYS.claim, 's')
  redis.call('HSET', KEYS.claim, 'i', ARGV.id, 'h', ARGV.head, 'n', ARGV.accepted, 'd', ARGV.duplicates, 'x', ARGV.refused)
  redis.call('PEXPIRE', KEYS.claim, ARGV.ttl)
end
return 1
