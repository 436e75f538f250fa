#!lua flags=allow-oom
-- Moves deliveries of a committed activity from where they are staged into their lanes.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3]       what is staged
-- KEYS[FIRST+4…]      six keys for each lane
-- ARGV[2]             the activity's ID
-- ARGV[3]             ordinal of the first delivery, which must be the first staged
-- ARGV[4]             how many deliveries
-- ARGV[5…]            the hosts of the lanes
-- RETURNS             how many are still staged
local act = new_activity(FIRST)
local items = redis.call('LRANGE', KEYS[FIRST + 3], 0, ARGV[4] - 1)
if #items > 0 and cmsgpack.unpack(items[1])[4] ~= tonumber(ARGV[3]) then return redis.call('LLEN', KEYS[FIRST + 3]) end
local moved = #items > 0 and #cmsgpack.unpack(items[1]) > 4
local lanes = {}
for i = 5, #ARGV do lanes[ARGV[i]] = (moved and read or read_for_push)(FIRST + 4 + 6 * (i - 5), ARGV[i]) end
local d = redis.call('HMGET', act.a, 'o', 'q', 'z', 't', 'k')
for _, text in ipairs(items) do
  local item = cmsgpack.unpack(text)
  local e = new_delivery(ARGV[2], d[1], tonumber(d[2]), d[3], item[4], item[2], item[3])
  if moved then adopt(act, lanes[item[1]], e, item, d[4], d[5]) else push(lanes[item[1]], e) end
end
for _, l in pairs(lanes) do
  if moved then write_adopted(l) else write_pushed(l) end
end
redis.call('LTRIM', KEYS[FIRST + 3], #items, -1)
local left = redis.call('LLEN', KEYS[FIRST + 3])
if left == 0 and redis.call('ZREM', STAGED, ARGV[2]) == 1 then
  local finished = field(act, 'j')
  redis.call('HDEL', act.a, 's', 'g', 'y', 'j')
  finish(act, finished)
end
signal()
return left
