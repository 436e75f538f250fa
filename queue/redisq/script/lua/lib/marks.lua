-- How activities are found: by what they may be looked for, in their home partition. It stands after lane.lua.
--
-- An activity has two or three marks of four bytes, that of its URI first (see marks.go), and comes with three or five keys:
--   1     LIST, shared by some URIs: mark, time (5 bytes, ms since 2025), ID
--   2, 3  of its second mark: LIST of time and ID or, once that is long, STREAM of IDs
--   4, 5  the same of the third
-- EVERY is a STREAM of the IDs of all activities. The time is that at which an activity was marked, not before
-- others were; if it is not that at which it was accepted, it is in the activity's field u.
-- OLDER is a ZSET that has in place of the streams, and of the lists 2 and 4, what came from another store and is older than
-- what is in EVERY: members with the score 0 of mark, time, ID, for each mark but that of the URI, and one with four zero bytes.
local EVERY, OLDER = KEYS.every, KEYS.older

local MARK, LISTED = 4, 64 -- bytes of a mark, and how many entries a list of one may have

-- mark_keys returns how many keys come with some marks.
local function mark_keys(marks) return 2 * #marks / MARK - 1 end

-- newest_in returns the time of the newest entry that a stream ever had.
local function newest_in(stream)
  local about = redis.pcall('XINFO', 'STREAM', stream)
  if about.err then error(about) end
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then return (string.match(about[i + 1], '^%d+')) end
  end
end

-- stamps_of returns a time as streams want it before the number of an entry, and as lists have it: most are those of one script.
local stamps = {}

local function stamps_of(at)
  if stamps.at ~= at then
    stamps.at, stamps.entry = at, string.format('%.0f-*', at)
    stamps.packed = struct.pack('>I5', math.max(0, at - EPOCH * 1000))
  end
  return stamps.entry, stamps.packed
end

-- append adds an ID to a stream, and returns its time.
local function append(stream, at, id)
  local added = redis.pcall('XADD', stream, (stamps_of(at)), 'i', id)
  if type(added) == 'string' then return at end
  added = redis.call('XADD', stream, newest_in(stream) .. '-*', 'i', id) -- the clock was set back a little
  return tonumber((string.match(added, '^%d+')))
end

local function timed(at, id)
  local _, packed = stamps_of(at)
  return packed .. id
end

-- append_past adds to EVERY what another store held, and returns its time, or nil if it is older than others there.
local function append_past(created, id)
  local added = redis.pcall('XADD', EVERY, string.format('%.0f-*', math.min(created, now)), 'i', id)
  return type(added) == 'string' and tonumber((string.match(added, '^%d+'))) or nil
end

local streams = {} -- those of marks that are known to be there

-- append_marked adds an activity to those of a mark.
local function append_marked(list, stream, at, id)
  streams[stream] = streams[stream] or redis.call('EXISTS', stream) == 1
  if streams[stream] then return append(stream, at, id) end
  if redis.call('RPUSH', list, timed(at, id)) <= LISTED then return end
  for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
    append(stream, struct.unpack('>I5', entry) + EPOCH * 1000, string.sub(entry, 6))
  end
  redis.call('DEL', list)
  streams[stream] = true
end

-- mark_fresh lets an activity be found that was accepted just now; the keys of its marks begin at KEYS[first]. It returns when that
-- was by the streams.
local function mark_fresh(id, marks, first)
  local at = append(EVERY, now, id)
  for i = 1, #marks / MARK - 1 do append_marked(KEYS[first + 2 * i - 1], KEYS[first + 2 * i], at, id) end
  redis.call('RPUSH', KEYS[first], string.sub(marks, 1, MARK) .. timed(at, id))
  return at
end

-- older_members returns what OLDER has of an activity.
local function older_members(marks, at, id)
  local members = {string.rep('\0', MARK) .. timed(at, id)}
  for i = 1, #marks / MARK - 1 do members[i + 1] = string.sub(marks, i * MARK + 1, (i + 1) * MARK) .. timed(at, id) end
  return members
end

-- mark_past is mark_fresh for an activity that another store held, of which d tells.
local function mark_past(d, first)
  local at, marks = append_past(d.created, d.id), d.marks
  if at then
    for i = 1, #marks / MARK - 1 do append_marked(KEYS[first + 2 * i - 1], KEYS[first + 2 * i], at, d.id) end
  else
    at = math.min(d.created, now)
    for _, member in ipairs(older_members(marks, at, d.id)) do redis.call('ZADD', OLDER, 0, member) end
  end
  redis.call('RPUSH', KEYS[first], string.sub(marks, 1, MARK) .. timed(at, d.id))
  return at
end

-- mark_activity lets an activity be found whose keys begin at KEYS[key] and those of its marks at KEYS[first]. d describes it.
local function mark_activity(d, key, first)
  local at = d.past and mark_past(d, first) or mark_fresh(d.id, d.marks, first)
  if at ~= d.created then redis.call('HSET', KEYS[key], 'u', at) end
end

-- take_from takes an ID out of a stream, and reports whether it was there.
local function take_from(stream, at, id)
  local taken = false
  for _, entry in ipairs(redis.call('XRANGE', stream, at, at)) do
    if entry[2][2] == id then taken = redis.call('XDEL', stream, entry[1]) == 1 end
  end
  if redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) end
  return taken
end

-- unmark undoes mark_activity.
local function unmark(id, marks, key, first)
  local times = redis.call('HMGET', KEYS[key], 'u', 't')
  local at = tonumber(times[1] or times[2])
  redis.call('LREM', KEYS[first], 1, string.sub(marks, 1, MARK) .. timed(at, id))
  if not take_from(EVERY, at, id) then redis.call('ZREM', OLDER, unpack(older_members(marks, at, id))) end
  for i = 1, #marks / MARK - 1 do
    local list, stream = KEYS[first + 2 * i - 1], KEYS[first + 2 * i]
    if redis.call('LREM', list, 1, timed(at, id)) == 0 then take_from(stream, at, id) end
  end
end
