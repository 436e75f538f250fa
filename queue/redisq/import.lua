#!lua
-- Stores an activity that another store held: at once or, where it is for several partitions or too large for a single
-- script, in steps as a submission is, see stage.lua.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3]       what is staged
-- KEYS[FIRST+4…]      six keys for each lane, in the order in which the deliveries name them; none if it is staged
-- ARGV[2…9]           ID, description, hash of the URI, ordering key and key ID, priority, what is left of the TTL in ms,
--                     whether it makes what its ordering key names
-- ARGV[10]            the body
-- ARGV[11]            the claim's name, '' to store it at once
-- ARGV[12]            the partitions of the activity if this is its home, else ''
-- ARGV[13]            number of this call for this activity and partition, so that it may be repeated
-- ARGV[14]            when it was accepted, in ms
-- ARGV[15…17]         how many deliveries there were besides: delivered, dead, cancelled
-- ARGV[18]            for how many ms it has been finished, '' if it isn't
-- ARGV[19]            what is left of the TTL of those that were revived, in ms, 0 if there are none
-- ARGV[20…]           the deliveries: host, path, headers, in how many ms it is due, flags, attempts, last attempt, reason,
--                     when it died in ms
-- RETURNS             1, or 0 if it is there already
local act, staged = new_activity(FIRST), ARGV[11] ~= ''
if staged and redis.call('HEXISTS', KEYS[FIRST + 3], ARGV[13]) == 1 then return 1 end
local is_new = redis.call('EXISTS', act.a) == 0
if not staged and not is_new then return 0 end

local d = described(2)
d.created = tonumber(ARGV[14])
d.ttl = d.ttl + now - d.created -- counted from now
if is_new then describe(act, ARGV[10], d, redis.call('HGET', URIS, d.uri) or '') end
if ARGV[19] ~= '0' then redis.call('HSET', act.a, 'v', now + ARGV[19]) end
if ARGV[12] ~= '' and redis.call('HSETNX', act.a, 'p', ARGV[12]) == 1 then
  total('activities', 1)
  for i, name in ipairs({'d', 'x', 'c'}) do
    local count = tonumber(ARGV[14 + i])
    if count > 0 then
      redis.call('HINCRBY', act.a, name, count)
      redis.call('HINCRBY', act.a, 'n', count)
    end
  end
end
local finished = ARGV[18] ~= '' and now - tonumber(ARGV[18])

local items, inboxes = {}, {}
for i = 20, #ARGV, 9 do
  local after = tonumber(ARGV[i + 3])
  items[#items + 1] = {
    ARGV[i], ARGV[i + 1], ARGV[i + 2], 0, after > 0 and now + after or 0, tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5]),
    ARGV[i + 6], ARGV[i + 7], tonumber(ARGV[i + 8]),
  }
  inboxes[#items] = ARGV[i] .. ARGV[i + 1]
end
local first = redis.call('LLEN', act.r)
call_all('RPUSH', act.r, inboxes)
total('pending', #items)
redis.call('HINCRBY', act.a, 'n', #items)
for i, item in ipairs(items) do item[4] = first + i - 1 end

if staged then
  redis.call('ZADD', STAGED, now, d.id)
  redis.call('HSET', act.a, 's', ARGV[11])
  if finished then redis.call('HSET', act.a, 'j', finished) end
  redis.call('HSET', KEYS[FIRST + 3], ARGV[13], cmsgpack.pack(1, items))
  signal()
  return 1
end
local lanes, at = {}, FIRST + 4
for _, item in ipairs(items) do
  if not lanes[item[1]] then
    lanes[item[1]] = read(at, item[1])
    at = at + 6
  end
  adopt(act, lanes[item[1]], new_delivery(d, item[4], item[2], item[3]), item, d.created, d.key)
end
for _, l in pairs(lanes) do write_adopted(l) end
finish(act, finished)
signal()
return 1
