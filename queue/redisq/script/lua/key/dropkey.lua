#!lua flags=allow-oom
-- Removes a signing key.
--
-- USES lane(now), feed(feed_action, newly_fed)
-- ARGV.hash     hash of the name
-- ARGV.name     the name
-- ARGV.said     the entry of the feed, if it is removed; '' if there is to be none
-- ARGV.pending  how many deliveries wait to be signed by it, to remove it only if it is to be removed when idle and is;
--               else left out
-- RETURNS       {1 if it was removed, how many entries were written to the feed}
if ARGV.pending then
  local from = redis.call('ZSCORE', KEYS.retiring, ARGV.name)
  if not from or tonumber(from) > now then return {0, 0} end
  if ARGV.pending ~= '0' then
    redis.call('ZADD', KEYS.retiring, now + 1000, ARGV.name) -- look at others first
    return {0, 0}
  end
end
redis.call('ZREM', KEYS.retiring, ARGV.name)
redis.call('ZREM', KEYS.keyids, ARGV.name)
local removed = redis.call('HDEL', KEYS.keys, ARGV.hash)
if removed == 1 then feed_action(ARGV.said) end
return {removed, newly_fed()}
