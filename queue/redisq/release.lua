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
local kind, items = cmsgpack.unpack(redis.call('HGET', KEYS[FIRST + 3], ARGV[3]) or cmsgpack.pack(0, {}))
local moved = kind == 1
for i = 4, #ARGV do places[ARGV[i]] = FIRST + 4 + 6 * (i - 4) end
for _, item in ipairs(items) do
  local host = item[1]
  lanes[host] = lanes[host] or (moved and read or read_for_push)(places[host], host)
end
local ordering, priority, makes, created, key = unpack(redis.call('HMGET', act.a, 'o', 'q', 'z', 't', 'k'))
local d = {id = ARGV[2], ordering = ordering, priority = tonumber(priority), makes = makes}
if moved then
  for _, item in ipairs(items) do
    adopt(act, lanes[item[1]], new_delivery(d, item[4], item[2], item[3]), item, created, key)
  end
  for _, l in pairs(lanes) do write_adopted(l) end
else
  push_all(act, items, lanes, d)
end
redis.call('HDEL', KEYS[FIRST + 3], ARGV[3])
local left = redis.call('EXISTS', KEYS[FIRST + 3])
if left == 0 and redis.call('ZREM', STAGED, ARGV[2]) == 1 then
  local finished = field(act, 'j')
  redis.call('HDEL', act.a, 's', 'j')
  forget_among('o' .. ordering, ARGV[2])
  finish(act, finished)
end
signal()
return left
