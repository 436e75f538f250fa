-- Stores the claim of an idempotency key that another store had.
--
-- KEYS[18]   the claim: HASH, see enqueue.lua
-- ARGV[2]    the fingerprint
-- ARGV[3…6]  what the client wants back from the receipt, accepted, duplicates, refused
-- ARGV[7]    how long the claim lasts, in ms
-- RETURNS    1, or 0 if the key is claimed already
if redis.call('HSETNX', KEYS[18], 'f', ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[18], 'o', '', 'h', ARGV[3], 'n', ARGV[4], 'd', ARGV[5], 'x', ARGV[6])
redis.call('PEXPIRE', KEYS[18], ARGV[7])
return 1
