-- Removes a signing key.
--
-- KEYS[18]  HASH of the keys, by the hash of their ID
-- KEYS[19]  ZSET of their IDs, by name
-- ARGV[2]   hash of the ID
-- ARGV[3]   the ID
-- RETURNS   1 if there was one
redis.call('ZREM', KEYS[19], ARGV[3])
return redis.call('HDEL', KEYS[18], ARGV[2])
