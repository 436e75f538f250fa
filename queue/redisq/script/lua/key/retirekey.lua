#!lua flags=allow-oom
-- Marks a signing key to be removed when idle.
--
-- USES lane(now)
-- ARGV.hash     hash of the name
-- ARGV.name     the name
-- RETURNS       1 if there is such a key
local text = redis.call('HGET', KEYS.keys, ARGV.hash)
if not text then return 0 end
redis.call('HSET', KEYS.keys, ARGV.hash, (string.gsub(text, '^(%d+)|', '%1!')))
redis.call('ZADD', KEYS.retiring, now, ARGV.name)
return 1
