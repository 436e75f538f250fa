-- What the scripts that take activities in share. It stands after activity.lua.

-- pending_inboxes returns where deliveries of other activities of the same URI go that still pend. others are the
-- places of their lists in KEYS.
local function pending_inboxes(others)
  local inboxes = {}
  for _, at in ipairs(others) do
    for _, inbox in ipairs(redis.call('LRANGE', KEYS[at], 0, -1)) do
      if inbox ~= '' and string.sub(inbox, 1, 1) ~= '!' then inboxes[inbox] = true end
    end
  end
  return inboxes
end

-- undecided returns the first of some activities that is staged: it may still be given up, so it counts for nothing yet.
local function undecided(ids)
  for i = 1, #ids, 16 do
    local id = string.sub(ids, i, i + 15)
    if redis.call('ZSCORE', STAGED, id) then return id end
  end
end

-- look_around returns the other activities of the same URI, and those that are staged with the same ordering key.
local function look_around(d)
  local ids = redis.call('HMGET', URIS, d.uri, 'o' .. d.ordering)
  return ids[1] or '', ids[2] or ''
end

-- to_stand_behind returns IDs of activities that are staged unless the call knows of each that it isn't decided about:
-- what is committed stands in the lanes before what is accepted after it.
local function to_stand_behind(ids, passed)
  for i = 1, #ids, 16 do
    if not string.find(passed, string.sub(ids, i, i + 15), 1, true) then return ids end
  end
end

-- refuses tells whether there is anything that a lane doesn't take.
local function refuses(s) return s.b > 0 or band(s.f, UNAVAILABLE) > 0 end

-- read_refusing reads a lane's state if there is anything that the lane doesn't take.
local function read_refusing(at, host)
  local packed = redis.call('HGET', KEYS[at], 's')
  if not packed then return end
  local _, _, _, _, _, f, _, _, _, _, _, _, _, _, _, b = cmsgpack.unpack(packed)
  if refuses({f = f or 0, b = b or 0}) then return open_state(new_lane(at, host), packed) end
end

-- refusal tells why a lane takes nothing of a priority, or nil. accepted is whether it takes something of this submission
-- already.
local function refusal(l, priority, accepted)
  local s = l.state
  if s.b > 0 then return 'host_blocked' end
  if band(s.f, UNAVAILABLE) == 0 or priority == 0 then return end
  if accepted or s.w > now or s.n > 0 then return 'host_unavailable' end
end

-- describe writes what an activity's deliveries share, and fields that the caller adds. known are the IDs of others of
-- the same URI.
local function describe(act, body, d, known, ...)
  redis.call('HSET', act.a, 'm', d.description, 'i', d.id, 'u', d.uri, 'o', d.ordering, 'k', d.key, 'q', d.priority,
    'e', d.created + d.ttl, 't', d.created, ...)
  if d.makes then redis.call('HSET', act.a, 'z', 1) end
  redis.call('SET', act.b, body)
  redis.call('ZADD', EXPIRES, d.created + d.ttl, d.id)
  redis.call('ZADD', PENDING, d.created, d.id)
  redis.call('HSET', URIS, d.uri, known .. d.id)
end

-- described reads the description that a call has in ARGV from a place on.
local function described(at)
  return {
    id = ARGV[at], description = ARGV[at + 1], uri = ARGV[at + 2], ordering = ARGV[at + 3], key = ARGV[at + 4],
    priority = tonumber(ARGV[at + 5]), ttl = tonumber(ARGV[at + 6]), makes = ARGV[at + 7] == '1', created = now,
  }
end

-- new_delivery makes a delivery that was never tried, of an activity that is described as by described.
local function new_delivery(d, ordinal, rest, headers)
  return {
    due = 0, flags = d.makes and MAKES or 0, attempts = 0, priority = d.priority, activity = d.id, ordinal = ordinal, ordering = d.ordering,
    rest = rest, headers = headers, last = '', key = '',
  }
end

-- sort_out returns of recipients, {{host, {path, headers, …}}, …}, those to be accepted likewise, how many these are, how
-- many are duplicates, and those refused. look reads the lane with a number, nil if it takes everything.
local function sort_out(to, look, priority, inboxes)
  local accepted, n, duplicates, refused = {}, 0, 0, {}
  for i, lane in ipairs(to) do
    local host, items, l = lane[1], lane[2], look(i - 1, lane[1])
    if next(inboxes) or l and refuses(l.state) then
      items = {}
      for j = 1, #lane[2], 2 do
        local inbox, why = host .. lane[2][j], l and refusal(l, priority, #items > 0)
        if inboxes[inbox] then
          duplicates = duplicates + 1
        elseif why then
          refused[#refused + 1] = {inbox, why}
        else
          items[#items + 1], items[#items + 2] = lane[2][j], lane[2][j + 1]
        end
      end
    end
    if #items > 0 then accepted[#accepted + 1] = {host, items} end
    n = n + #items / 2
  end
  return accepted, n, duplicates, refused
end

-- list notes where accepted deliveries go, behind those that are listed, and returns the ordinal of the first.
local function list(act, accepted)
  local inboxes = {}
  for _, lane in ipairs(accepted) do
    for j = 1, #lane[2], 2 do inboxes[#inboxes + 1] = lane[1] .. lane[2][j] end
  end
  return (call_all('RPUSH', act.r, inboxes) or 0) - #inboxes
end

-- read_for_push reads of a lane as much as it takes to append to it: its state and, unless there is a backlog, what is in
-- its window, but not what that says.
local function read_for_push(at, host)
  local l = read_state(at, host)
  l.packed_window = {}
  if l.state.n == 0 or l.state.k > 0 then return l end
  for _, text in ipairs(redis.call('HVALS', l.h)) do
    if is_delivery(text) then l.packed_window[#l.packed_window + 1] = text end
  end
  return l
end

-- is_head tells whether a delivery of an ordering key is in the window.
local function is_head(l, ordering)
  for _, text in ipairs(l.packed_window) do
    if string.find(text, ordering, 1, true) and unpack_delivery(0, text).ordering == ordering then return true end
  end
  return false
end

-- arrive puts a lane where Due finds it, after a delivery came that is due at once. A lane that is due by then anyway
-- keeps its time.
local function arrive(l, priority)
  local s = l.state
  if s.p > 0 or s.b > 0 then return move(l, IDLE, 0) end
  local at, before = math.max(s.w, s.x), found_at(l)
  if before and before > math.max(at, now) then at = math.max(at, offered_until(l.host)) end -- what is offered is found by then
  if at <= now then at = 0 end
  local class = band(s.f, GOOD) > 0 and 0 or 1
  if before and before <= math.max(at, now) + (s.d > 0 and 1000 or 0) then -- later ones are due by the second
    at, priority = before, math.min(priority, (s.z - DUE) % 3)
    if s.z == DUE + class * 3 + priority then return end
  end
  move(l, DUE + class * 3 + priority, at, before)
end

-- push appends a delivery to a lane.
local function push(l, e)
  local s, priority = l.state, e.priority
  e.id = math.max(s.i + 1, micros)
  s.i, s.n, l.changed = e.id, s.n + 1, true
  rate('accepted', 1)
  if priority == 0 and band(s.f, UNAVAILABLE) > 0 then
    hasten(l)
    l.arrived = 0
  end
  if s.k > 0 then
    priority = enter_backlog(l, e)
  elseif is_head(l, e.ordering) then
    behind(l, e)
    return
  elseif #l.packed_window >= WINDOW then
    priority = enter_backlog(l, e)
  else
    local text = pack(e)
    set_field(l, e.id, text)
    table.insert(l.packed_window, text)
  end
  if not l.arrived or priority < l.arrived then l.arrived = priority end
end

-- push_all appends deliveries of an activity to their lanes, which are given by host, and to its list. d describes it.
local function push_all(act, accepted, lanes, d)
  local ordinal = list(act, accepted)
  for _, lane in ipairs(accepted) do
    local l, items = lanes[lane[1]], lane[2]
    for j = 1, #items, 2 do
      push(l, new_delivery(d, ordinal, items[j], items[j + 1]))
      ordinal = ordinal + 1
    end
    if l.arrived then arrive(l, l.arrived) end
    write_state(l)
    l.arrived, l.changed = nil, false
  end
end
