#!lua
-- Stores or replaces a signing key.
--
-- USES lane(now)
-- ARGV.hash     hash of the name
-- ARGV.name     the name
-- ARGV.key      the key; it is stored with the time, in ms, and a bar before it, or an exclamation mark if it is removed
--               when idle
-- ARGV.grace    '' if it stays, or in how many ms it may be removed when idle
-- RETURNS       1 if it is new
local mark = ARGV.grace == '' and '|' or '!'
local new = redis.call('HSET', KEYS.keys, ARGV.hash, string.format('%.0f', now) .. mark .. ARGV.key)
redis.call('ZADD', KEYS.keyids, 0, ARGV.name)
if ARGV.grace == '' then
  redis.call('ZREM', KEYS.retiring, ARGV.name)
else
  redis.call('ZADD', KEYS.retiring, now + ARGV.grace, ARGV.name)
end
return new
