#!lua flags=allow-oom
-- Moves deliveries of a committed activity from where they are staged into their lanes.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3]       what is staged, see stage.lua
-- KEYS[FIRST+4…]      six keys for each lane
-- ARGV[2]             the activity's ID
-- ARGV[3]             number of the call that staged them
-- ARGV[4…]            the hosts of the lanes, and maybe others
-- RETURNS             1 if more is staged
local act, places, lanes = new_activity(FIRST), {}, {}
local staged = redis.call('HGET', KEYS[FIRST + 3], ARGV[3])
local items = staged and cmsgpack.unpack(staged)[2] or {}
local moved = #items > 0 and #items[1] > 4
for i = 4, #ARGV do places[ARGV[i]] = FIRST + 4 + 6 * (i - 4) end
for _, item in ipairs(items) do
  local host = item[1]
  lanes[host] = lanes[host] or (moved and read or read_for_push)(places[host], host)
end
local d = redis.call('HMGET', act.a, 'o', 'q', 'z', 't', 'k')
for _, item in ipairs(items) do
  local e = new_delivery(ARGV[2], d[1], tonumber(d[2]), d[3], item[4], item[2], item[3])
  if moved then adopt(act, lanes[item[1]], e, item, d[4], d[5]) else push(lanes[item[1]], e) end
end
for _, l in pairs(lanes) do
  if moved then write_adopted(l) else write_pushed(l) end
end
redis.call('HDEL', KEYS[FIRST + 3], ARGV[3])
local left = redis.call('EXISTS', KEYS[FIRST + 3])
if left == 0 and redis.call('ZREM', STAGED, ARGV[2]) == 1 then
  local finished = field(act, 'j')
  redis.call('HDEL', act.a, 's', 'j')
  forget_among('o' .. d[1], ARGV[2])
  finish(act, finished)
end
signal()
return left
