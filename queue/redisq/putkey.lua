#!lua
-- Stores or replaces a signing key.
--
-- KEYS[FIRST]   HASH of the keys, by the hash of their ID
-- KEYS[FIRST+1] ZSET of their IDs, by name
-- ARGV[2]       hash of the ID
-- ARGV[3]       the ID
-- ARGV[4]       the key; it is stored with the time, in ms, and a bar before it
-- RETURNS       1 if it is new
local new = redis.call('HSET', KEYS[FIRST], ARGV[2], string.format('%.0f', now) .. '|' .. ARGV[4])
redis.call('ZADD', KEYS[FIRST + 1], 0, ARGV[3])
return new
