-- What the scripts that touch lanes share. It stands before each of them.
--
-- KEYS[1]     stats     HASH of totals, and of how many hosts are in each state
-- KEYS[2…7]   due0…5    ZSETs of hosts by when they are due, in ms (0: at once): healthy by priority, suspect by priority
-- KEYS[8]     idle      ZSET of the other hosts: each host is in exactly one of these seven
-- KEYS[9]     offered   ZSET of hosts that Due offered, by until when they are kept from others
-- KEYS[10]    expires   ZSET of activities of which something pends, by when it expires
-- KEYS[11]    pending   ZSET of the same, by when they were accepted
-- KEYS[12]    done      ZSET of finished activities without dead letters, by when they were finished
-- KEYS[13]    dead      ZSET of dead letters (activity, ordinal), by when they died
-- KEYS[14]    letters   HASH of what they were
-- KEYS[15]    uris      HASH from the hash of a URI to the IDs of the activities that pend, joined
-- KEYS[16]    parked    ZSET, by name, of hosts with deliveries that wait for a key: hash of the key's ID, host
-- KEYS[17]    staged    ZSET of activities not yet in their lanes, by when they were staged
-- ARGV[1]     the channel on which nodes are woken
--
-- A lane is kept in six keys, most of them there only while they are needed:
--   h       HASH: s its state, r the host's record, and the window: deliveries that may go next, by their number
--   c       HASH of the ordering keys in the backlog: "PRIORITY:COUNT"
--   w       ZSET, by name, of what waits behind a delivery of the window: ordering key, number, delivery
--   q0…q2   LISTs: the backlog by priority, in the order accepted, none of it ever looked at
-- A new delivery goes into the window while there is room and nothing waits before it, else to the backlog. So a lane of
-- few deliveries is one small hash, a deep one costs little more than its bytes, and no call reads much of it.
--
-- State: n pending, k of these in the backlog, i last number, t token, x hidden until (leased), w waits until, f what the
-- record says (bits below), p paused, b blocked, u turn among the priorities, z the set it is in, g epoch. It is packed
-- in this order, which may only grow.
local STATS, DUE, IDLE, OFFERED, EXPIRES, PENDING = KEYS[1], 1, 7, KEYS[9], KEYS[10], KEYS[11]
local DONE, DEAD, LETTERS, URIS, PARKED, STAGED = KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]

local NUMBERS = {'n', 'k', 'i', 't', 'x', 'w', 'f', 'p', 'b', 'u', 'z', 'g'}
local GOOD, PROBING, UNAVAILABLE, FAILED = 1, 2, 4, 8 -- of f; a host never reached has none
local HOST_FAILED, WAITS_KEY, TAKEN = 1, 2, 4 -- of a delivery's flags
local WINDOW = 32
local EPOCH = 1735689600 -- numbers of deliveries are microseconds since 2025, so that they stay exact in a double
local HOUR = 3600000

local redis_time = redis.call('TIME')
local micros = (redis_time[1] - EPOCH) * 1e6 + redis_time[2]
local now = redis_time[1] * 1000 + math.floor(redis_time[2] / 1000)
local wake -- in how many ms a lane is due that was not known to be

local band, bor, bnot = bit.band, bit.bor, bit.bnot

local function has(e, flag) return band(e.flags, flag) ~= 0 end

local function created(e) return EPOCH * 1000 + math.floor(e.id / 1000) end

-- due returns when a delivery may go; one never tried may go since it was created.
local function due(e) return e.due > 0 and e.due or created(e) end

local function pack(e)
  local r = {e.due, e.flags, e.attempts, e.priority, e.activity, e.ordinal, e.ordering, e.rest}
  if e.headers ~= '' or e.last ~= '' or e.key ~= '' then
    r[9], r[10], r[11] = e.headers, e.last, e.key
  end
  return cmsgpack.pack(r)
end

-- is_delivery tells a packed delivery from a packed state and a record by its first byte.
local function is_delivery(text)
  local byte = string.byte(text)
  return byte == 0x98 or byte == 0x9b
end

local function unpack_delivery(id, packed)
  local r = cmsgpack.unpack(packed)
  return {
    id = id, due = r[1], flags = r[2], attempts = r[3], priority = r[4], activity = r[5], ordinal = r[6],
    ordering = r[7], rest = r[8], headers = r[9] or '', last = r[10] or '', key = r[11] or '',
  }
end

-- number is a delivery's number in eight bytes that sort as numbers do.
local function number(id) return struct.pack('>I8', id) end

local function with_number(e) return number(e.id) .. pack(e) end

local function from_numbered(text) return unpack_delivery(struct.unpack('>I8', text), string.sub(text, 9)) end

local function state(s)
  if s.b > 0 then return 'blocked' end
  if s.p > 0 then return 'paused' end
  if band(s.f, UNAVAILABLE) > 0 then return 'unavailable' end
  if band(s.f, PROBING) > 0 then return 'open' end
  if band(s.f, FAILED) > 0 then return 'failing' end
  return 'healthy'
end

-- new_lane is a lane whose keys begin at KEYS[at], not yet read.
local function new_lane(at, host)
  return {
    host = host, h = KEYS[at], c = KEYS[at + 1], w = KEYS[at + 2], q = {[0] = KEYS[at + 3], KEYS[at + 4], KEYS[at + 5]},
    window = {}, size = 0, heads = {}, dirty = {}, gone = {}, record = '',
  }
end

local function put(l, e)
  l.window[e.id] = e
  l.heads[e.ordering] = e
  l.size = l.size + 1
end

-- open_state reads a lane's state from its field, or makes that of a lane not known before.
local function open_state(l, packed)
  local values = packed and cmsgpack.unpack(packed) or {}
  l.known, l.packed, l.state = packed and true, packed, {}
  for i, name in ipairs(NUMBERS) do l.state[name] = values[i] or 0 end
  l.label = l.known and state(l.state)
  return l
end

-- read_state reads a lane's state only.
local function read_state(at, host)
  local l = new_lane(at, host)
  return open_state(l, redis.call('HGET', l.h, 's'))
end

-- read reads a lane's state, record and window.
local function read(at, host)
  local l, packed = new_lane(at, host), false
  local raw = redis.call('HGETALL', l.h)
  for i = 1, #raw, 2 do
    if raw[i] == 's' then
      packed = raw[i + 1]
    elseif raw[i] == 'r' then
      l.record = raw[i + 1]
    else
      put(l, unpack_delivery(tonumber(raw[i]), raw[i + 1]))
    end
  end
  return open_state(l, packed)
end

local function set(l, e) l.dirty[e.id] = e end

local function waits_on_key(l, key)
  for _, e in pairs(l.window) do
    if e.key == key then return true end
  end
  return false
end

-- unpark forgets that a delivery waits for its key.
local function unpark(l, e)
  if not has(e, WAITS_KEY) then return end
  local key = e.key
  e.flags, e.key = e.flags - WAITS_KEY, ''
  if not waits_on_key(l, key) then redis.call('ZREM', PARKED, key .. l.host) end
end

local function park(l, e, key)
  unpark(l, e)
  e.flags, e.key, e.due = bor(e.flags, WAITS_KEY), key, now + HOUR
  redis.call('ZADD', PARKED, 0, key .. l.host)
end

-- taken counts what is taken.
local function taken(l)
  local n = 0
  for _, e in pairs(l.window) do
    if has(e, TAKEN) then n = n + 1 end
  end
  return n
end

-- hand_back puts back what is taken.
local function hand_back(l)
  for _, e in pairs(l.window) do
    if has(e, TAKEN) then
      e.flags = e.flags - TAKEN
      set(l, e)
    end
  end
end

-- next_of moves up what waits behind a delivery that left the window.
local function next_of(l, ordering)
  local found = redis.call('ZRANGEBYLEX', l.w, '[' .. ordering, '[' .. ordering .. '\255', 'LIMIT', 0, 1)[1]
  if not found then return end
  redis.call('ZREM', l.w, found)
  local e = from_numbered(string.sub(found, #ordering + 1))
  put(l, e)
  set(l, e)
end

-- drop takes a delivery out of the window.
local function drop(l, e)
  unpark(l, e)
  l.window[e.id], l.heads[e.ordering], l.dirty[e.id] = nil, nil, nil
  l.gone[#l.gone + 1] = e.id
  l.size = l.size - 1
  l.state.n = l.state.n - 1
  next_of(l, e.ordering)
end

-- behind puts a delivery behind the one of its ordering key that is in the window.
local function behind(l, e) redis.call('ZADD', l.w, 0, e.ordering .. with_number(e)) end

-- leave_backlog counts an ordering key's delivery out of the backlog.
local function leave_backlog(l, ordering)
  l.state.k = l.state.k - 1
  local priority, count = string.match(redis.call('HGET', l.c, ordering), '(%d):(%d+)')
  if count == '1' then
    redis.call('HDEL', l.c, ordering)
  else
    redis.call('HSET', l.c, ordering, priority .. ':' .. (count - 1))
  end
end

-- enter_backlog appends a delivery to the backlog: where others of its ordering key are already, or to that of its
-- priority, which it returns.
local function enter_backlog(l, e)
  l.state.k = l.state.k + 1
  local priority, count = string.match(redis.call('HGET', l.c, e.ordering) or e.priority .. ':0', '(%d):(%d+)')
  redis.call('HSET', l.c, e.ordering, priority .. ':' .. (count + 1))
  redis.call('RPUSH', l.q[tonumber(priority)], with_number(e))
  return tonumber(priority)
end

local function offered_until(host) return tonumber(redis.call('ZSCORE', OFFERED, host) or 0) end

-- heads_due returns the best priority of what may go at a time, and of the rest the delivery due first. What is taken
-- counts only if wanted: it may go again once the lease has ended.
local function heads_due(l, at, taken_too)
  local best, later
  for _, e in pairs(l.window) do
    if taken_too or not has(e, TAKEN) then
      if due(e) <= at then
        if not best or e.priority < best then best = e.priority end
      elseif not later or due(e) < due(later) or due(e) == due(later) and e.id < later.id then
        if not has(e, WAITS_KEY) or band(l.state.f, PROBING) == 0 then later = e end
      end
    end
  end
  if l.state.k > 0 then
    for p = 0, (best or 3) - 1 do
      if redis.call('EXISTS', l.q[p]) == 1 then return p, later end
    end
  end
  return best, later
end

-- place_of returns the set that a lane belongs into, and when it is due.
local function place_of(l)
  local s = l.state
  if s.p > 0 or s.b > 0 or s.n == 0 then return IDLE, 0 end
  local best, later = heads_due(l, now, true)
  if not best and not later then return IDLE, 0 end
  local at = math.max(s.w, s.x, l.known and offered_until(l.host) or 0)
  if best or band(s.f, PROBING) > 0 then
    if at <= now then at = 0 end
  else
    at = math.max(at, due(later))
  end
  if at > now then best = heads_due(l, at, true) end
  local class = band(s.f, GOOD) > 0 and 0 or 1
  return DUE + class * 3 + (best or later.priority), at
end

-- move puts a lane into the set where Due finds it, and wakes nodes if it is due earlier than it was.
local function move(l, set_number, at)
  local s, before = l.state, math.huge
  if s.z > 0 then
    if s.z ~= IDLE then before = tonumber(redis.call('ZSCORE', KEYS[1 + s.z], l.host)) or before end
    if s.z ~= set_number then redis.call('ZREM', KEYS[1 + s.z], l.host) end
  end
  s.z = set_number
  redis.call('ZADD', KEYS[1 + set_number], at, l.host)
  if set_number ~= IDLE and math.max(at, now) < before then wake = math.min(wake or math.huge, math.max(0, at - now)) end
end

local function write_state(l)
  local values = {}
  for i, name in ipairs(NUMBERS) do values[i] = l.state[name] end
  local packed = cmsgpack.pack(values)
  if packed ~= l.packed then redis.call('HSET', l.h, 's', packed) end
end

local function count_state(l)
  local label = state(l.state)
  if label == l.label then return end
  if l.label then redis.call('HINCRBY', STATS, l.label, -1) end
  redis.call('HINCRBY', STATS, label, 1)
end

-- write writes what changed of a lane that was read, and puts it where Due finds it.
local function write(l)
  for id, e in pairs(l.dirty) do redis.call('HSET', l.h, id, pack(e)) end
  for _, id in ipairs(l.gone) do redis.call('HDEL', l.h, id) end
  move(l, place_of(l))
  count_state(l)
  write_state(l)
end

-- signal tells the nodes what was found out about when lanes are due. It stands at the end of a script.
local function signal()
  if wake then redis.call('PUBLISH', ARGV[1], string.format('%.0f', wake)) end
end
