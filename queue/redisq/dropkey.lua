#!lua flags=allow-oom
-- Removes a signing key.
--
-- KEYS[FIRST]   HASH of the keys, by the hash of their ID
-- KEYS[FIRST+1] ZSET of their IDs, by name
-- ARGV[2]       hash of the ID
-- ARGV[3]       the ID
-- RETURNS       1 if there was one
redis.call('ZREM', KEYS[FIRST + 1], ARGV[3])
return redis.call('HDEL', KEYS[FIRST], ARGV[2])
