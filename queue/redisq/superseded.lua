#!lua flags=allow-oom
-- Notes for the receipt how many deliveries a submission cancelled.
--
-- KEYS[FIRST] the claim of its idempotency key
-- ARGV[2]     how many
-- RETURNS     1
if redis.call('EXISTS', KEYS[FIRST]) == 1 then redis.call('HSET', KEYS[FIRST], 'c', ARGV[2]) end
return 1
