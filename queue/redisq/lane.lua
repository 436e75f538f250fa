-- What the scripts that touch lanes share. It stands before each of them.
--
-- KEYS[1]     stats     HASH of totals, and of how many hosts are in each state
-- KEYS[2…7]   due0…5    ZSETs of hosts by when they are due, in ms (0: at once): healthy by priority, suspect by priority
-- KEYS[8]     excess    ZSET of hosts of whose lanes Sweep shall give something up, by when to look at them
-- KEYS[9]     offered   ZSET of hosts that Due offered, by until when they are kept from others
-- KEYS[10]    expires   ZSET of activities of which something pends, by when it expires
-- KEYS[11]    pending   ZSET of the same, by when they were accepted
-- KEYS[12]    done      ZSET of finished activities without dead letters, by when they were finished
-- KEYS[13]    dead      ZSET of dead letters (activity, ordinal), by when they died
-- KEYS[14]    letters   HASH of what they were
-- KEYS[15]    uris      HASH from the hash of a URI to the IDs of the activities that pend, joined; and from 'o' and the hash
--                       of an ordering key to those of the activities that are staged
-- KEYS[16]    parked    ZSET, by name, of hosts with deliveries that wait for a key: hash of the key's ID, host
-- KEYS[17]    staged    ZSET of activities not yet in their lanes, by when they were staged
-- KEYS[18]    filed     ZSET, by name, of dead letters by host and by reason; see activity.lua
-- KEYS[19…20] hosts     hosts known, in pages (see pages.lua): first letter of their state, host
-- KEYS[21…22] later     lanes due much later than now, in pages: when, in s (eight hexadecimal digits), set, host
-- KEYS[23…]   FIRST…    what else the script needs
-- ARGV[1]     how many deliveries a lane may hold (0: any number), a blank, and the channel on which nodes are woken
--
-- A lane is kept in six keys, most of them there only while they are needed:
--   h       HASH: s its state, r the host's record but for e its last error, and the window: deliveries that may go next,
--           by their number. No field takes more than 64 bytes as a rule, for that makes Redis use a few hundred more
--   c       HASH of the ordering keys in the backlog: "PRIORITY:COUNT"
--   w       ZSET, by name, of what waits behind a delivery of the window: ordering key, number, delivery
--   q0…q2   LISTs: the backlog by priority, in the order accepted, none of it ever looked at
-- A new delivery goes into the window while there is room and nothing waits before it, else to the backlog. So a lane of
-- few deliveries is one small hash, a deep one costs little more than its bytes, and no call reads much of it.
--
-- State: n pending, i last number, z the set it is due in (0: none), k how many of those pending are in the backlog, t
-- token, f what the record says (bits below), u turn among the priorities, d when it is due in s if it is among the later
-- ones, x hidden until (leased), w waits until, o from when SeenPause counts, g epoch, y how many probes Seen hastened since
-- the last success, v whether it is in excess, p paused, b blocked. It is packed in this order, which may only grow, without
-- zeros at the end.
local STATS, DUE, IDLE, EXCESS, OFFERED, EXPIRES, PENDING = KEYS[1], 1, 0, KEYS[8], KEYS[9], KEYS[10], KEYS[11]
local DONE, DEAD, LETTERS, URIS, PARKED, STAGED = KEYS[12], KEYS[13], KEYS[14], KEYS[15], KEYS[16], KEYS[17]
local FILED, FIRST = KEYS[18], 23
local HOSTS, LATER = {index = KEYS[19], pages = KEYS[20]}, {index = KEYS[21], pages = KEYS[22]}
local LANE, WAKES = string.match(ARGV[1], '^(%d+) (.*)$')
LANE = tonumber(LANE)

local GOOD, PROBING, UNAVAILABLE, FAILED = 1, 2, 4, 8 -- of f; a host never reached has none
local HOST_FAILED, WAITS_KEY, TAKEN, MAKES, REVIVED = 1, 2, 4, 8, 16 -- of a delivery's flags
local WINDOW = 16
local EPOCH = 1735689600 -- numbers of deliveries are microseconds since 2025, so that they stay exact in a double
local HOUR = 3600000
local MUCH = 10000 -- from how many ms on a lane is due much later
local RETRY = 1000 -- in how many ms to look again at what could not be given up, for it was taken

local redis_time = redis.call('TIME')
local micros = (redis_time[1] - EPOCH) * 1e6 + redis_time[2]
local now = redis_time[1] * 1000 + math.floor(redis_time[2] / 1000)
local wake -- in how many ms a lane is due that was not known to be

-- call_all runs a command with a list that may be longer than one call takes: of pairs, if it takes pairs. It returns the
-- last answer.
local function call_all(command, key, list)
  local answer
  for i = 1, #list, 1000 do answer = redis.call(command, key, unpack(list, i, math.min(#list, i + 999))) end
  return answer
end

local band, bor, bnot = bit.band, bit.bor, bit.bnot

local function has(e, flag) return band(e.flags, flag) ~= 0 end

local function untried(e) return e.attempts == 0 and e.last == '' end

-- silent tells that a host gets nothing now, or a probe at the most.
local function silent(s) return s.p > 0 or s.w > now or band(s.f, PROBING) > 0 end

local function created(e) return EPOCH * 1000 + math.floor(e.id / 1000) end

-- due returns when a delivery may go; one never tried may go since it was created.
local function due(e) return e.due > 0 and e.due or created(e) end

local SHORT, LONG = {['/inbox'] = '', ['\n/inbox'] = '\n'}, {[''] = '/inbox', ['\n'] = '\n/inbox'} -- usual ends of inboxes
local AS_HOST = '=' -- stands for a last attempt that the host's last error was

-- pack makes a few bytes of a delivery: most were never tried, and go to an inbox of the usual name. failure is the host's
-- last error, if that is stored beside it.
local function pack(e, failure)
  local first, ordinal, to = e.flags * 4 + e.priority, e.ordinal, e.activity .. e.ordering .. (SHORT[e.rest] or e.rest)
  if e.due == 0 and e.attempts == 0 and e.last == '' and e.headers == '' and e.key == '' then return cmsgpack.pack({first, ordinal, to}) end
  local r, last = {first, ordinal, to, e.due > 0 and e.due - created(e) or 0, e.attempts, e.last, e.headers, e.key}, 8
  if e.last ~= '' and e.last == failure then r[6] = AS_HOST end
  while r[last] == 0 or r[last] == '' do
    r[last] = nil
    last = last - 1
  end
  return cmsgpack.pack(r)
end

-- is_delivery tells a packed delivery from a packed state and a record by its first byte.
local function is_delivery(text)
  local byte = string.byte(text)
  return byte >= 0x93 and byte <= 0x98
end

local function unpack_delivery(id, packed, failure)
  local r = cmsgpack.unpack(packed)
  local rest, due = string.sub(r[3], 23), r[4] or 0
  if due ~= 0 then due = due + created({id = id}) end
  return {
    id = id, flags = math.floor(r[1] / 4), priority = r[1] % 4, ordinal = r[2], activity = string.sub(r[3], 1, 16),
    ordering = string.sub(r[3], 17, 22), rest = LONG[rest] or rest, due = due, attempts = r[5] or 0,
    headers = r[7] or '', last = r[6] == AS_HOST and failure or r[6] or '', key = r[8] or '',
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
    window = {}, size = 0, heads = {}, dirty = {}, gone = {}, fields = {}, record = '', failure = '',
  }
end

local function put(l, e)
  l.window[e.id] = e
  l.heads[e.ordering] = e
  l.size = l.size + 1
end

-- open_state reads a lane's state from its field, or makes that of a lane not known before.
local function open_state(l, packed)
  local n, i, z, k, t, f, u, d, x, w, o, g, y, v, p, b
  if packed then n, i, z, k, t, f, u, d, x, w, o, g, y, v, p, b = cmsgpack.unpack(packed) end
  l.known, l.packed = packed and true, packed
  l.state = {
    n = n or 0, i = i or 0, z = z or 0, k = k or 0, t = t or 0, f = f or 0, u = u or 0, d = d or 0,
    x = x or 0, w = w or 0, o = o or 0, g = g or 0, y = y or 0, v = v or 0, p = p or 0, b = b or 0,
  }
  l.label = l.known and state(l.state)
  return l
end

-- pack_state undoes open_state.
local function pack_state(s)
  local values, last = {s.n, s.i, s.z, s.k, s.t, s.f, s.u, s.d, s.x, s.w, s.o, s.g, s.y, s.v, s.p, s.b}, 16
  while last > 1 and values[last] == 0 do last = last - 1 end
  return cmsgpack.pack(unpack(values, 1, last))
end

-- read_state reads a lane's state only.
local function read_state(at, host)
  local l = new_lane(at, host)
  return open_state(l, redis.call('HGET', l.h, 's'))
end

-- read reads a lane's state, record and window.
local function read(at, host)
  local l, raw, fields = new_lane(at, host), redis.call('HGETALL', KEYS[at]), {}
  for i = 1, #raw, 2 do fields[raw[i]] = raw[i + 1] end
  local packed, record = fields.s, fields.r
  l.failure = fields.e or ''
  if record then l.record = struct.pack('>I2', #record) .. record .. l.failure end
  fields.s, fields.r, fields.e = nil, nil, nil
  for id, text in pairs(fields) do put(l, unpack_delivery(tonumber(id), text, l.failure)) end
  return open_state(l, packed)
end

local function set(l, e) l.dirty[e.id] = e end

-- set_field has a field of a lane's hash written, with all others that change.
local function set_field(l, name, value)
  local n = #l.fields
  l.fields[n + 1], l.fields[n + 2] = name, value
end

-- keep_record keeps what was learnt of a host: the length of it but for its last error (two bytes), that, and the last
-- error.
local function keep_record(l, record)
  local length = struct.unpack('>I2', record)
  local failure = string.sub(record, length + 3)
  if record ~= l.record then set_field(l, 'r', string.sub(record, 3, length + 2)) end
  if failure ~= l.failure then
    for _, e in pairs(l.window) do
      if e.last ~= '' then set(l, e) end
    end
    if failure == '' then l.gone[#l.gone + 1] = 'e' else set_field(l, 'e', failure) end
  end
  l.record, l.failure = record, failure
end

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

-- recover makes due what waits because the host failed.
local function recover(l)
  for _, e in pairs(l.window) do
    if has(e, HOST_FAILED) and not has(e, WAITS_KEY) and not has(e, TAKEN) and e.due > now then
      e.due = now
      set(l, e)
    end
  end
end

-- hasten lets the next probe of a host be sooner, as it was heard from. See queue.SeenPause.
local function hasten(l)
  local s = l.state
  if band(s.f, PROBING) == 0 or s.w <= now then return end
  local at = s.o + math.min(10000 * 2 ^ math.min(math.max(0, s.y - 2), 20), HOUR)
  if at < s.w then s.w, s.y = math.max(now, at), s.y + 1 end
end

-- behind_of returns what waits behind a delivery of an ordering key, oldest first: all, or from a number on.
local function behind_of(l, ordering, first, most, from)
  return redis.call('ZRANGEBYLEX', l.w, '[' .. ordering .. (from or ''), '[' .. ordering .. '\255', 'LIMIT', first, most)
end

-- waits_behind tells whether anything waits behind a delivery of the window.
local function waits_behind(l) return l.state.n > l.state.k + l.size end

-- next_of moves up what waits behind a delivery that left the window.
local function next_of(l, ordering)
  if not waits_behind(l) then return end
  local found = behind_of(l, ordering, 0, 1)[1]
  if not found then return end
  redis.call('ZREM', l.w, found)
  local e = from_numbered(string.sub(found, #ordering + 1))
  put(l, e)
  set(l, e)
end

-- leave_window takes a delivery out of the window, where nothing is in its place yet.
local function leave_window(l, e)
  unpark(l, e)
  l.window[e.id], l.heads[e.ordering], l.dirty[e.id] = nil, nil, nil
  l.gone[#l.gone + 1] = e.id
  l.size = l.size - 1
end

-- drop takes a delivery out of the window for good.
local function drop(l, e)
  leave_window(l, e)
  l.state.n = l.state.n - 1
  next_of(l, e.ordering)
end

-- behind puts a delivery behind the one of its ordering key that is in the window.
local function behind(l, e) redis.call('ZADD', l.w, 0, e.ordering .. with_number(e)) end

-- step_back puts what is in the window behind an older delivery of its ordering key.
local function step_back(l, e)
  if has(e, WAITS_KEY) then e.due = now end
  leave_window(l, e)
  behind(l, e)
end

-- untake puts back what is taken: in the window, or behind what is older and was retried meanwhile.
local function untake(l, e)
  e.flags, l.changed = e.flags - TAKEN, true
  set(l, e)
  local first = waits_behind(l) and behind_of(l, e.ordering, 0, 1)[1]
  if not first or struct.unpack('>I8', first, #e.ordering + 1) > e.id then return end
  step_back(l, e)
  next_of(l, e.ordering)
end

-- hand_back puts back all that is taken.
local function hand_back(l)
  local back = {}
  for _, e in pairs(l.window) do
    if has(e, TAKEN) then back[#back + 1] = e end
  end
  for _, e in ipairs(back) do untake(l, e) end
end

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

-- join_backlog counts a delivery into the backlog, and returns where it belongs: where others of its ordering key are
-- already, or to those of its priority.
local function join_backlog(l, e)
  l.state.k = l.state.k + 1
  local priority, count = string.match(redis.call('HGET', l.c, e.ordering) or e.priority .. ':0', '(%d):(%d+)')
  redis.call('HSET', l.c, e.ordering, priority .. ':' .. (count + 1))
  return tonumber(priority)
end

-- enter_backlog appends a delivery to the backlog, and returns to which.
local function enter_backlog(l, e)
  local priority = join_backlog(l, e)
  redis.call('RPUSH', l.q[priority], with_number(e))
  return priority
end

-- take_out takes a delivery out of a lane, wherever it is: where is 'window', 'behind' or the priority of a backlog, text
-- what is stored there. It tells whether it was there still.
local function take_out(l, e, where, text)
  if where == 'window' then
    drop(l, e)
    return true
  end
  if where == 'behind' then
    if redis.call('ZREM', l.w, text) == 0 then return false end
  else
    if redis.call('LREM', l.q[where], 1, text) == 0 then return false end
    leave_backlog(l, e.ordering)
  end
  l.state.n = l.state.n - 1
  return true
end
