#!lua flags=allow-oom
-- Moves deliveries of a committed activity from where they are staged into their lanes.
--
-- USES lane(read_lane), feed(newly_fed), place(signal), activity(new_activity, field, forget_staged, newly_owed, finish)
-- USES intake(read_for_push, push_all), moved(adopt_all)
-- KEYS.activity×2 the activity's a and r
-- KEYS.staging    what is staged, see stage.lua
-- KEYS.lanes…     six keys for each lane
-- ARGV.id         the activity's ID
-- ARGV.call       number of the call that staged them
-- ARGV.hosts…     the hosts of the lanes, and maybe others
-- RETURNS         {whether more is staged, how many entries were written to the feed, reports: see newly_owed}
local act, places, lanes = new_activity(KEYS.activity), {}, {}
local _, items, past = cmsgpack.unpack(redis.call('HGET', KEYS.staging, ARGV.call) or cmsgpack.pack(0, {}))
for i = ARGV.hosts, #ARGV do places[ARGV[i]] = KEYS.lanes + 6 * (i - ARGV.hosts) end
for _, item in ipairs(items) do
  local host = item[1]
  lanes[host] = lanes[host] or (past and read_lane or read_for_push)(places[host], host)
end
local ordering, priority, body, accepted, key = unpack(redis.call('HMGET', act.a, 'o', 'q', 'b', 't', 'k'))
local d = {id = ARGV.id, ordering = ordering, priority = tonumber(priority), body = body, created = tonumber(accepted), key = key}
local place_all = past and adopt_all or push_all
place_all(act, items, lanes, d)
redis.call('HDEL', KEYS.staging, ARGV.call)
local left = redis.call('EXISTS', KEYS.staging)
if left == 0 and redis.call('ZREM', STAGED, ARGV.id) == 1 then
  redis.call('HDEL', act.a, 's')
  forget_staged(ordering, ARGV.id)
  if not field(act, 'f') then finish(act, past and past[5]) end
end
signal()
return {left, newly_fed(), newly_owed()}
