#!lua
-- Stores the claim of an idempotency key that another store had.
--
-- KEYS[FIRST] the claim: HASH, see enqueue.lua
-- ARGV[2]     the fingerprint
-- ARGV[3…7]   what the client wants back from the receipt, accepted, duplicates, refused, cancelled
-- ARGV[8]     how long the claim lasts, in ms
-- RETURNS     1, or 0 if the key is claimed already
if redis.call('HSETNX', KEYS[FIRST], 'f', ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[FIRST], 'o', '', 'h', ARGV[3], 'n', ARGV[4], 'd', ARGV[5], 'x', ARGV[6], 'c', ARGV[7])
redis.call('PEXPIRE', KEYS[FIRST], ARGV[8])
return 1
