-- How activities are found: by what they may be looked for, in their home partition. It stands after lane.lua.
--
-- An activity has two or three marks of four bytes, that of its URI first (see marks.go), and comes with three or five keys:
--   1     LIST, shared by some URIs: mark, time (5 bytes, ms since 2025), ID
--   2, 3  of its second mark: LIST of time and ID or, once that is long, STREAM of IDs
--   4, 5  the same of the third
-- EVERY is a STREAM of the IDs of all activities. The time is that at which an activity was marked, not before
-- others were; if it is not that at which it was accepted, it is in the activity's field u.
local EVERY = KEYS.every

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

-- append adds an ID to a stream, and returns its time.
local function append(stream, at, id)
  local added = redis.pcall('XADD', stream, at .. '-*', 'i', id)
  if type(added) == 'table' then added = redis.call('XADD', stream, newest_in(stream) .. '-*', 'i', id) end -- the clock was set back a little
  return tonumber((string.match(added, '^%d+')))
end

local function timed(at, id) return struct.pack('>I5', at - EPOCH * 1000) .. id end

-- append_marked adds an activity to those of a mark.
local function append_marked(list, stream, at, id)
  if redis.call('EXISTS', stream) == 1 then return append(stream, at, id) end
  if redis.call('RPUSH', list, timed(at, id)) <= LISTED then return end
  for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
    append(stream, struct.unpack('>I5', entry) + EPOCH * 1000, string.sub(entry, 6))
  end
  redis.call('DEL', list)
end

-- mark_activity lets an activity be found whose keys begin at KEYS[key] and those of its marks at KEYS[first]. d describes it.
local function mark_activity(d, key, first)
  local at, marks = append(EVERY, now, d.id), d.marks
  redis.call('RPUSH', KEYS[first], string.sub(marks, 1, MARK) .. timed(at, d.id))
  for i = 1, #marks / MARK - 1 do append_marked(KEYS[first + 2 * i - 1], KEYS[first + 2 * i], at, d.id) end
  if at ~= d.created then redis.call('HSET', KEYS[key], 'u', at) end
end

-- take_from takes an ID out of a stream.
local function take_from(stream, at, id)
  for _, entry in ipairs(redis.call('XRANGE', stream, at, at)) do
    if entry[2][2] == id then redis.call('XDEL', stream, entry[1]) end
  end
  if redis.call('XLEN', stream) == 0 then redis.call('DEL', stream) end
end

-- unmark undoes mark_activity.
local function unmark(id, marks, key, first)
  local times = redis.call('HMGET', KEYS[key], 'u', 't')
  local at = tonumber(times[1] or times[2])
  take_from(EVERY, at, id)
  redis.call('LREM', KEYS[first], 1, string.sub(marks, 1, MARK) .. timed(at, id))
  for i = 1, #marks / MARK - 1 do
    local list, stream = KEYS[first + 2 * i - 1], KEYS[first + 2 * i]
    if redis.call('LREM', list, 1, timed(at, id)) == 0 then take_from(stream, at, id) end
  end
end
