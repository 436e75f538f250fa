#!lua
-- Stores the claim of an idempotency key that another store had.
--
-- KEYS.claim       the claim: HASH, see enqueue.lua
-- ARGV.fingerprint the fingerprint
-- ARGV.head        what the client wants back from the receipt
-- ARGV.accepted    how many deliveries were accepted
-- ARGV.duplicates  how many were duplicates
-- ARGV.refused     what was refused
-- ARGV.ttl         how long the claim lasts, in ms
-- RETURNS          1, or 0 if the key is claimed already
if redis.call('HSETNX', KEYS.claim, 'f', ARGV.fingerprint) == 0 then return 0 end
redis.call('HSET', KEYS.claim, 'o', '', 'h', ARGV.head, 'n', ARGV.accepted, 'd', ARGV.duplicates, 'x', ARGV.refused)
redis.call('PEXPIRE', KEYS.claim, ARGV.ttl)
return 1
