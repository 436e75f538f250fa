-- Functions that the scripts share which touch lanes. It stands before each of them.
--
-- Of the keys that a partition has one of, each script gets those that it names; docs/redis.md says what they hold. Its own
-- come after them.
--
-- ARGV[1]     how many deliveries a lane may hold (0: any number), whether the feed has entries of what was delivered, and
--             the channel on which nodes are woken
--
-- A lane is kept in six keys, most of them there only while they are needed:
--   h       HASH: s its state, r the host's record but for e its last error, p and b the host's own orders, and the window: deliveries that may go next,
--           by their number. No field takes more than 64 bytes as a rule, for that makes Redis use a few hundred more
--   c       HASH of the chains in the backlog: "PRIORITY:COUNT:BODY", the body that of the newest
--   w       ZSET, by name, of what waits behind a delivery of the window: chain, number, delivery
--   q0…q2   LISTs: the backlog by priority, in the order accepted, none of it ever looked at
-- A new delivery goes into the window while there is room and nothing waits before it, else to the backlog. So a lane of
-- few deliveries is one small hash, a deep one costs little more than its bytes, and no call reads much of it.
--
-- A chain is named by six bytes made of the ordering key and the inbox. Of a chain one delivery at most is in the window,
-- its head; those behind it are in w or, all newer, in the backlog.
--
-- State: n pending, i last number, z the set it is due in (0: none), k how many of those pending are in the backlog, t
-- token, f what the record says (bits below), u turn among the priorities, d when it is due in s if it is among the later
-- ones, x hidden until (leased), w waits until, o from when SeenPause counts, g epoch, y how many probes Seen hastened since
-- the last success, v why it is in excess (1 to give something up, 2 to see that it has waited), p and b until when its own
-- orders pause and block it (0: there is none, 1: without end), c when what state() returns last changed (0: never), h by which
-- orders for others it is paused (1) and blocked (2), as it is listed. It is packed in this order, which may only grow,
-- without zeros at the end.
local STATS, EXCESS, OFFERED, EXPIRES, PENDING = KEYS.stats, KEYS.excess, KEYS.offered, KEYS.expires, KEYS.pending
local DONE, DEAD, LETTERS, PARKED, STAGED = KEYS.done, KEYS.dead, KEYS.letters, KEYS.parked, KEYS.staged
local FILED, SIGNING, ORDERED, OUTDATED = KEYS.filed, KEYS.signing, KEYS.ordered, KEYS.outdated
local COVERS = KEYS.covers
local BODIES, BODY_INFO, TOMBSTONES, TOMBS = KEYS.bodies, KEYS.bodyinfo, KEYS.tombstones, KEYS.tombs

local HOSTS = {index = KEYS.hosts, pages = KEYS.hostpages}

local LATER = {index = KEYS.later, pages = KEYS.laterpages}

-- DUE_SETS are where Due finds lanes, by the number of the set. The first three are those of healthy hosts.
local DUE_SETS = {KEYS.due0, KEYS.due1, KEYS.due2, KEYS.due3, KEYS.due4, KEYS.due5}

local LANE, FEEDS_DELIVERED, WAKES = string.match(ARGV[1], '^(%d+) (%d) (.*)$')
LANE = tonumber(LANE)

local DUE, IDLE = 1, 0 -- numbers of sets: the first, and none
local GOOD, PROBING, UNAVAILABLE, FAILED = 1, 2, 4, 8 -- of f; a host never reached has none
local REFUSING, THROTTLED = 16, 32 -- of f, too; THROTTLED goes once the host has waited, see end_throttle
local ANSWER = 64 -- from here on f holds how the host answered last, see queue.AnswerKind
local WINDOW = 16
local EPOCH = 1735689600 -- numbers of deliveries are microseconds since 2025, so that they stay exact in a double
local HOUR = 3600000
local MUCH = 10000 -- from how many ms on a lane is due much later
local RETRY = 1000 -- in how many ms to look again at what could not be given up, for it was taken

-- The partition's clock, by which all times are stored, is Redis's but for the lag, so that it does not jump when that does:
-- it was kept a minute ago or so, and what is much later or earlier can't be right. A fleet that was stopped for longer than
-- MAX_STOP can't be told from a jump, so for it too the clock goes on from where it was. A script that may not write goes by
-- what one that does would keep.
local MAX_STOP, MINUTE = 600000, 60000
local redis_time, clock = redis.call('TIME'), redis.call('HMGET', STATS, 'lag', 'kept', 'covers')
local lag, kept = tonumber(clock[1] or 0), tonumber(clock[2] or 0)
local now = redis_time[1] * 1000 + math.floor(redis_time[2] / 1000) - lag
if kept > 0 and (now > kept + MAX_STOP or now < kept - MINUTE) then
  lag = lag + now - (kept + MINUTE)
  now = kept + MINUTE
end
local micros = (now - EPOCH * 1000) * 1000 + redis_time[2] % 1000
local numbers = {first = micros, last = 0} -- the least number that a new delivery gets, and the greatest that one got
local wake -- in how many ms a lane is due that was not known to be

-- keep_time keeps the clock. Each script that changes lanes calls it, and each node once a minute at least, so that what is
-- kept is never much older.
local function keep_time()
  if now < kept + MINUTE / 2 and lag == tonumber(clock[1] or 0) then return end
  redis.call('HSET', STATS, 'lag', string.format('%.0f', lag), 'kept', string.format('%.0f', now))
end

-- call_all runs a command with a list that may be longer than one call takes: of pairs, if it takes pairs. It returns the
-- last answer.
local function call_all(command, key, list)
  local answer
  for i = 1, #list, 1000 do answer = redis.call(command, key, unpack(list, i, math.min(#list, i + 999))) end
  return answer
end

local band, bor, bnot = bit.band, bit.bor, bit.bnot

local function has(e, flag) return band(e.flags, flag) ~= 0 end

local function created_at(e) return EPOCH * 1000 + math.floor(e.id / 1000) end

-- due returns when a delivery may go; one never tried may go since it was created.
local function due(e) return e.due > 0 and e.due or created_at(e) end

local SHORT, LONG = {['/inbox'] = '', ['\n/inbox'] = '\n'}, {[''] = '/inbox', ['\n'] = '\n/inbox'} -- usual ends of inboxes
local AS_HOST = '=' -- stands for a last attempt that the host's last error was

-- pack makes a few bytes of a delivery: most were never tried, and go to an inbox of the usual name. failure is the host's
-- last error, if that is stored beside it. The flags are those of package queue.
local function pack(e, failure)
  local first, ordinal, to = e.flags * 4 + e.priority, e.ordinal, e.activity .. e.chain .. e.body .. (SHORT[e.rest] or e.rest)
  if e.due == 0 and e.attempts == 0 and e.last == '' and e.headers == '' and e.key == '' then return '\147' .. cmsgpack.pack(first, ordinal, to) end
  local r, last = {first, ordinal, to, e.due > 0 and e.due - created_at(e) or 0, e.attempts, e.last, e.headers, e.key}, 8
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

-- NOBODY is the activity of what is damaged, and NO_BODY its body.
local NOBODY, NO_BODY = string.rep('\0', 16), string.rep('\0', 5)

-- stand_in is in place of a delivery that cannot be read: it can be taken, and settled as damaged. where names it in the log.
local function stand_in(id, where)
  id = id or 0
  return {
    id = id, flags = 0, priority = 1, ordinal = 0, activity = NOBODY, chain = struct.pack('>I6', id % 2 ^ 48), body = NO_BODY,
    rest = where, due = now, attempts = 0, headers = '', last = '', key = '',
  }
end

local function may_be(kind, value) return value == nil or type(value) == kind end

-- is_packed reports whether what was unpacked can be of a delivery.
local function is_packed(r)
  return type(r) == 'table' and type(r[1]) == 'number' and r[1] >= 0 and r[1] < 65536 and type(r[2]) == 'number' and r[2] >= 0 and
    type(r[3]) == 'string' and #r[3] >= 27 and may_be('number', r[4]) and may_be('number', r[5]) and may_be('string', r[6]) and
    may_be('string', r[7]) and may_be('string', r[8])
end

local function unpack_delivery(id, packed, failure)
  local ok, r = pcall(cmsgpack.unpack, packed)
  if not ok or not is_packed(r) then return stand_in(id, string.format('%.0f', id)) end
  local first, to, at = r[1], r[3], r[4] or 0
  local rest = string.sub(to, 28)
  if at ~= 0 then at = at + created_at({id = id}) end
  return {
    id = id, flags = math.floor(first / 4), priority = first % 4, ordinal = r[2], activity = string.sub(to, 1, 16),
    chain = string.sub(to, 17, 22), body = string.sub(to, 23, 27), rest = LONG[rest] or rest, due = at, attempts = r[5] or 0,
    headers = r[7] or '', last = r[6] == AS_HOST and failure or r[6] or '', key = r[8] or '',
  }
end

-- number is a delivery's number in eight bytes that sort as numbers do.
local function number(id) return struct.pack('>I8', id) end

local function with_number(e) return number(e.id) .. pack(e) end

local function from_numbered(text)
  if #text < 8 then return stand_in(0, text) end
  return unpack_delivery(struct.unpack('>I8', text), string.sub(text, 9))
end

-- Orders for other hosts cover a host, of which the hash COVERS has those by letter and name. It is not looked at if the field
-- covers of STATS says that there are none. An order is packed: since when and until when it holds (0: without end), whether it
-- covers others, why, and the name of the token that asked for it.
local PAUSED, BLOCKED = 1, 2 -- of h

local function is_paused(s) return s.p > 0 or band(s.h, PAUSED) > 0 end

local function is_blocked(s) return s.b > 0 or band(s.h, BLOCKED) > 0 end

-- cover_fields returns the fields that COVERS may have for a host, those of the nearest first; see queue.Over.
local function cover_fields(host)
  local name, fields = string.match(host, '^(.*):%d+$'), {}
  if name then name = '.' .. name else name = host end
  while true do
    name = string.match(name, '%.(.*)')
    if not name or not string.find(name, '.', 1, true) then return fields end
    fields[#fields + 1], fields[#fields + 2] = 'p' .. name, 'b' .. name
  end
end

-- order_of unpacks an order, or returns nil if it is over or cannot be read.
local function order_of(letter, host, packed)
  local ok, since, until_at, covers, reason, by = pcall(cmsgpack.unpack, packed)
  if not ok or type(until_at) ~= 'number' or until_at > 0 and until_at <= now then return end
  return {letter = letter, host = host, since = since, ends = until_at, covers = covers, reason = reason, by = by}
end

-- covering returns the orders that cover a host, the nearest first.
local function covering(host)
  local orders, fields = {}, clock[3] and cover_fields(host) or {}
  if #fields == 0 then return orders end
  for i, packed in ipairs(redis.call('HMGET', COVERS, unpack(fields))) do
    if packed then orders[#orders + 1] = order_of(string.sub(fields[i], 1, 1), string.sub(fields[i], 2), packed) end
  end
  return orders
end

local function end_own(l, letter)
  l.state[letter], l.lapsed = 0, l.lapsed or {}
  table.insert(l.lapsed, letter)
end

-- apply_orders updates a lane's state by the orders that hold now. l.lapsed are those of its own whose time has passed.
local function apply_orders(l)
  local s = l.state
  if s.p > 1 and s.p <= now then end_own(l, 'p') end
  if s.b > 1 and s.b <= now then end_own(l, 'b') end
  l.pause_ends, s.h = s.p == 1 and math.huge or s.p, 0
  if not clock[3] then return end
  for _, order in ipairs(covering(l.host)) do
    s.h = bor(s.h, order.letter == 'p' and PAUSED or BLOCKED)
    if order.letter == 'p' then l.pause_ends = math.max(l.pause_ends, order.ends == 0 and math.huge or order.ends) end
  end
end

-- orders_for returns the orders of a letter that hold for a host: its own first, then those that cover it, the nearest first.
local function orders_for(l, letter)
  local own = l.state[letter] > 0 and order_of(letter, l.host, redis.call('HGET', l.h, letter) or cmsgpack.pack(0, 0, 0, '', ''))
  local orders = {own or nil}
  for _, order in ipairs(covering(l.host)) do
    if order.letter == letter then orders[#orders + 1] = order end
  end
  return orders
end

local UNWELL = 62 -- of f: those of PROBING to THROTTLED, each of which makes a host other than healthy

local function state(s)
  if s.b == 0 and s.p == 0 and s.h == 0 and band(s.f, UNWELL) == 0 then return 'healthy' end
  if is_blocked(s) then return 'blocked' end
  if is_paused(s) then return 'paused' end
  if band(s.f, UNAVAILABLE) > 0 then return 'unavailable' end
  if band(s.f, PROBING) > 0 then return 'open' end
  if band(s.f, FAILED) > 0 then return 'failing' end
  if band(s.f, REFUSING) > 0 then return 'refusing' end
  if band(s.f, THROTTLED) > 0 then return 'throttled' end
  return 'healthy'
end

-- end_throttle notes that a host has waited as it asked. Until a script that may write does so, the host is listed and
-- counted as throttled.
local function end_throttle(s)
  if s.w <= now then s.f = band(s.f, bnot(THROTTLED)) end
end

local function answer_kind(s) return math.floor(s.f / ANSWER) end

-- new_lane is a lane whose keys begin at KEYS[at], not yet read.
local function new_lane(at, host)
  return {
    host = host, h = KEYS[at], c = KEYS[at + 1], w = KEYS[at + 2], q = {[0] = KEYS[at + 3], KEYS[at + 4], KEYS[at + 5]},
    window = {}, size = 0, heads = {}, dirty = {}, gone = {}, fields = {}, record = '', failure = '',
  }
end

local function put(l, e)
  l.window[e.id] = e
  l.heads[e.chain] = e
  l.size = l.size + 1
end

-- is_number reports whether a field of a lane can be the number of a delivery.
local function is_number(name) return #name <= 16 and string.find(name, '^%d+$') end

-- unpack_state unpacks a state. It raises an error where that cannot be read, for instance by comparing what is no number.
local function unpack_state(packed)
  local n, i, z, k, t, f, u, d, x, w, o, g, y, v, p, b, c, h, more = cmsgpack.unpack(packed)
  n, i, z, k, t, f, u, d, x = n or 0, i or 0, z or 0, k or 0, t or 0, f or 0, u or 0, d or 0, x or 0
  w, o, g, y, v, p, b, c, h = w or 0, o or 0, g or 0, y or 0, v or 0, p or 0, b or 0, c or 0, h or 0
  local most = 2 ^ 53
  if more ~= nil or z > 6 or v > 2 or h > 3 or n > most or i > most or k > most or t > most or f > most or u > most or d > most or x > most
    or w > most or o > most or g > most or y > most or p > most or b > most or c > most then error('damaged') end
  return {n = n, i = i, z = z, k = k, t = t, f = f, u = u, d = d, x = x, w = w, o = o, g = g, y = y, v = v, p = p, b = b, c = c, h = h}
end

local function new_state(n, k)
  return {n = n, i = 0, z = 0, k = k, t = 0, f = 0, u = 0, d = 0, x = 0, w = 0, o = 0, g = 0, y = 0, v = 0, p = 0, b = 0, c = 0, h = 0}
end

-- count_again makes the state of a lane whose state cannot be read: its deliveries are counted, and all else is forgotten.
local function count_again(l)
  local waiting, backlog = redis.call('ZCARD', l.w), 0
  for p = 0, 2 do backlog = backlog + redis.call('LLEN', l.q[p]) end
  local fields = redis.call('HKEYS', l.h)
  local window = 0
  for _, name in ipairs(fields) do
    if is_number(name) then window = window + 1 end
  end
  l.lost_state = true
  return new_state(window + waiting + backlog, backlog)
end

-- open_state reads a lane's state from its field, or makes that of a lane not known before.
local function open_state(l, packed)
  local ok, s
  if packed then ok, s = pcall(unpack_state, packed) end
  l.known, l.packed = packed and true, packed
  l.state = ok and s or packed and count_again(l) or new_state(0, 0)
  l.label, l.answer = l.known and state(l.state), answer_kind(l.state)
  l.was_covered = l.state.h > 0
  apply_orders(l)
  return l
end

-- pack_state undoes open_state.
local function pack_state(s)
  if s.h == 0 and s.c > 0 then -- it is a host whose state has changed at some time
    return cmsgpack.pack(s.n, s.i, s.z, s.k, s.t, s.f, s.u, s.d, s.x, s.w, s.o, s.g, s.y, s.v, s.p, s.b, s.c)
  end
  local values, last = {s.n, s.i, s.z, s.k, s.t, s.f, s.u, s.d, s.x, s.w, s.o, s.g, s.y, s.v, s.p, s.b, s.c, s.h}, 18
  while last > 1 and values[last] == 0 do last = last - 1 end
  return cmsgpack.pack(unpack(values, 1, last))
end

-- read_state reads a lane's state only.
local function read_state(at, host)
  local l = new_lane(at, host)
  return open_state(l, redis.call('HGET', l.h, 's'))
end

-- read_lane reads a lane's state, record and window.
local function read_lane(at, host)
  local l, raw, fields = new_lane(at, host), redis.call('HGETALL', KEYS[at]), {}
  for i = 1, #raw, 2 do fields[raw[i]] = raw[i + 1] end
  local packed, record = fields.s, fields.r
  l.failure = fields.e or ''
  if record then l.record = struct.pack('>I2', #record) .. record .. l.failure end
  fields.s, fields.r, fields.e, fields.p, fields.b = nil, nil, nil, nil, nil
  for id, text in pairs(fields) do
    if is_number(id) then put(l, unpack_delivery(tonumber(id), text, l.failure)) else l.gone[#l.gone + 1] = id end
  end
  return open_state(l, packed)
end

local function change(l, e) l.dirty[e.id] = e end

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
      if e.last ~= '' then change(l, e) end
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

-- count_taken counts what is taken.
local function count_taken(l)
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
      change(l, e)
    end
  end
end

-- hasten lets the next probe of a host be sooner, as it was heard from. See queue.SeenPause.
local function hasten(l)
  local s = l.state
  if band(s.f, PROBING) == 0 or s.w <= now then return end
  local pauses = SEEN_PAUSES
  local at = s.o + (pauses[math.min(s.y + 1, #pauses)] or 0)
  if at < s.w then s.w, s.y = math.max(now, at), s.y + 1 end
end

-- behind_of returns what waits behind the head of a chain, oldest first: all, or from a number on.
local function behind_of(l, chain, first, most, from)
  return redis.call('ZRANGEBYLEX', l.w, '[' .. chain .. (from or ''), '[' .. chain .. '\255', 'LIMIT', first, most)
end

-- last_behind returns the newest of what waits behind the head of a chain, or nil.
local function last_behind(l, chain)
  local text = redis.call('ZREVRANGEBYLEX', l.w, '[' .. chain .. '\255', '[' .. chain, 'LIMIT', 0, 1)[1]
  return text and from_numbered(string.sub(text, #chain + 1))
end

-- oldest_pending returns when the oldest delivery of a lane was accepted in ms, 0 if it has none. ids are the numbers of those
-- in its window.
local function oldest_pending(l, ids)
  local first = math.huge
  for _, id in ipairs(ids) do first = math.min(first, id) end
  for p = 0, 2 do
    local text = l.state.k > 0 and redis.call('LINDEX', l.q[p], 0)
    if text then first = math.min(first, (struct.unpack('>I8', text))) end -- it returns more
  end
  return first < math.huge and created_at({id = first}) or 0
end

-- waits_behind reports whether anything waits behind a delivery of the window.
local function waits_behind(l) return l.state.n > l.state.k + l.size end

-- next_of moves up what waits behind a delivery that left the window.
local function next_of(l, chain)
  if not waits_behind(l) then return end
  local found = behind_of(l, chain, 0, 1)[1]
  if not found then return end
  redis.call('ZREM', l.w, found)
  local e = from_numbered(string.sub(found, #chain + 1))
  put(l, e)
  change(l, e)
end

-- leave_window takes a delivery out of the window, where nothing is in its place yet.
local function leave_window(l, e)
  unpark(l, e)
  l.window[e.id], l.heads[e.chain], l.dirty[e.id] = nil, nil, nil
  l.gone[#l.gone + 1] = e.id
  l.size = l.size - 1
end

-- drop takes a delivery out of the window for good.
local function drop(l, e)
  leave_window(l, e)
  l.state.n = l.state.n - 1
  next_of(l, e.chain)
end

-- behind puts a delivery behind the one of its chain that is in the window.
local function behind(l, e) redis.call('ZADD', l.w, 0, e.chain .. with_number(e)) end

-- step_back puts what is in the window behind an older delivery of its chain.
local function step_back(l, e)
  if has(e, WAITS_KEY) then e.due = now end
  leave_window(l, e)
  behind(l, e)
end

-- untake puts back what is taken: in the window, or behind what is older and was retried meanwhile.
local function untake(l, e)
  e.flags, l.changed = e.flags - TAKEN, true
  change(l, e)
  local first = waits_behind(l) and behind_of(l, e.chain, 0, 1)[1]
  if not first or struct.unpack('>I8', first, #e.chain + 1) > e.id then return end
  step_back(l, e)
  next_of(l, e.chain)
end

-- hand_back puts back all that is taken.
local function hand_back(l)
  local back = {}
  for _, e in pairs(l.window) do
    if has(e, TAKEN) then back[#back + 1] = e end
  end
  for _, e in ipairs(back) do untake(l, e) end
end
