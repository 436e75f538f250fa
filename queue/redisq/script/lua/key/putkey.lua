#!lua
-- Stores or replaces a signing key.
--
-- USES lane(now), feed(feed_action, newly_fed)
-- ARGV.hash     hash of the name
-- ARGV.name     the name
-- ARGV.key      the key; it is stored with the time, in ms, and a bar before it, or an exclamation mark if it is removed
--               when idle
-- ARGV.grace    '' if it stays, or in how many ms it may be removed when idle
-- ARGV.print    the fingerprint of the key
-- ARGV.said     the entry of the feed, unless the same key is there already; '' if there is to be none
-- RETURNS       {1 if it is new, how many entries were written to the feed}
local mark = ARGV.grace == '' and '|' or '!'
local old = redis.call('HGET', KEYS.keys, ARGV.hash)
if not old or string.match(old, '^%d+(.)') ~= mark or not string.find(old, ARGV.print, 1, true) then feed_action(ARGV.said) end
local new = redis.call('HSET', KEYS.keys, ARGV.hash, string.format('%.0f', now) .. mark .. ARGV.key)
redis.call('ZADD', KEYS.keyids, 0, ARGV.name)
if ARGV.grace == '' then
  redis.call('ZREM', KEYS.retiring, ARGV.name)
else
  redis.call('ZADD', KEYS.retiring, now + ARGV.grace, ARGV.name)
end
return {new, newly_fed()}
