#!lua flags=allow-oom
-- Marks a signing key to be removed when idle.
--
-- USES lane(now), feed(feed_action, newly_fed)
-- ARGV.hash     hash of the name
-- ARGV.name     the name
-- ARGV.said     the entry of the feed, unless it is marked already
-- RETURNS       {1 if there is such a key, how many entries were written to the feed}
local text = redis.call('HGET', KEYS.keys, ARGV.hash)
if not text then return {0, 0} end
local marked, stayed = string.gsub(text, '^(%d+)|', '%1!')
redis.call('HSET', KEYS.keys, ARGV.hash, marked)
if stayed > 0 then feed_action(ARGV.said) end
redis.call('ZADD', KEYS.retiring, now, ARGV.name)
return {1, newly_fed()}
