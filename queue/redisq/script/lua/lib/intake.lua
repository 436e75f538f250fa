-- Functions that the scripts share which take activities in. It stands after activity.lua.

local none_staged -- whether no activity at all is, once that is known: no script stages what it looks for later

-- staged_before returns the activities that are staged with an ordering key, as ORDERED has them, and the ID of one of the
-- same bytes among them, if there is: it may still be aborted, so it is not known whether this one repeats it.
local function staged_before(d)
  if none_staged == nil then none_staged = redis.call('EXISTS', ORDERED) == 0 end
  local all = not none_staged and redis.call('HGET', ORDERED, d.ordering) or ''
  for i = 1, #all, 21 do
    if string.sub(all, i + 16, i + 20) == d.body and string.sub(all, i, i + 15) ~= d.id then return all, string.sub(all, i, i + 15) end
  end
  return all
end

-- to_stand_behind returns IDs of activities that are staged unless the call knows of each that it isn't decided about:
-- what is committed stands in the lanes before what is accepted after it.
local function to_stand_behind(staged, passed)
  local ids, unknown = '', false
  for i = 1, #staged, 21 do
    local id = string.sub(staged, i, i + 15)
    ids, unknown = ids .. id, unknown or not string.find(passed, id, 1, true)
  end
  return unknown and ids
end

-- look_around looks at the other activities that matter for one. It returns what the caller must know before it is stored:
-- {'staged', ID} if this may be the same and is not decided about, {'behind', IDs} if these are staged; else nothing. passed
-- are those staged that the caller knows not to be decided about.
local function look_around(d, passed)
  local staged, same = staged_before(d)
  if same then return {'staged', same} end
  local before = to_stand_behind(staged, passed)
  if before then return {'behind', before} end
end

-- refuses reports whether there is anything that a lane doesn't take.
local function refuses(s) return is_blocked(s) or band(s.f, UNAVAILABLE) > 0 end

-- read_refusing reads a lane's state if there is anything that the lane doesn't take.
local function read_refusing(at, host)
  local packed = redis.call('HGET', KEYS[at], 's')
  if not packed and not clock[3] then return end
  local values = packed and all_numbers(packed) or {}
  if not clock[3] and not refuses({f = values[6] or 0, b = values[16] or 0, h = values[18] or 0}) then return end
  local l = open_state(new_lane(at, host), packed)
  if refuses(l.state) then return l end
end

-- refusal returns why a lane takes nothing of a priority, or nil. accepted is whether it takes something of this submission
-- already.
local function refusal(l, priority, accepted)
  local s = l.state
  if is_blocked(s) then return 'host_blocked' end
  if band(s.f, UNAVAILABLE) == 0 or priority == 0 then return end
  if accepted or s.w > now or s.n > 0 then return 'host_unavailable' end
end

local expiring, by_age = {}, {} -- what enter_all adds to the sets: when, and the ID

-- describe writes what an activity's deliveries share, and fields that the caller adds, but for what enter_all writes. d.past is
-- nil unless another store held it, see moved.lua.
local function describe(act, body, d, ...)
  hold_body(d, body)
  redis.call('HSET', act.a, 'm', d.description, 'i', d.id, 'o', d.ordering, 'k', d.key, 'q', d.priority,
    'e', d.created + d.ttl, 't', d.created, 'b', d.body, ...)
  expiring[#expiring + 1], expiring[#expiring + 2] = d.created + d.ttl, d.id
  by_age[#by_age + 1], by_age[#by_age + 2] = d.created, d.id
  if d.past and d.past[6] > 0 then redis.call('HSET', act.a, 'v', d.past[6]) end
end

-- enter_all enters all activities that were described where they are found while they are pending. It stands before what ends
-- one of them, and at the end of a script.
local function enter_all()
  call_all('ZADD', EXPIRES, expiring)
  call_all('ZADD', PENDING, by_age)
  expiring, by_age = {}, {}
end

-- described reads the description that a call has in ARGV from a place on: ID, description, hash of the URI, ordering key
-- and key ID, priority, TTL in ms, what it does to its object, and hash of that; hash of the URI that it refers to; digest; what
-- its tombstone tells; marks. So is the body, as far as the store holds it: its name, and what is known if it is there.
local function described(at, past)
  local d = {created = past and past[1] or now, past = past}
  d.id, d.description, d.uri, d.ordering, d.key, d.priority, d.ttl, d.role, d.object, d.refers, d.digest, d.epitaph, d.marks = unpack(ARGV, at, at + 12)
  d.priority, d.ttl, d.role = tonumber(d.priority), tonumber(d.ttl), tonumber(d.role)
  d.body, d.held = name_body(d.digest)
  return d
end

-- new_delivery makes a delivery that was never tried, of an activity that is described as by described.
local function new_delivery(d, ordinal, rest, headers, chain)
  return {
    due = 0, flags = 0, attempts = 0, priority = d.priority, activity = d.id, ordinal = ordinal, chain = chain, body = d.body,
    rest = rest, headers = headers, last = '', key = '',
  }
end

-- read_for_push reads of a lane as much as it takes to append to it: its state and, when it is asked for, what is in its
-- window, but not what that says.
local function read_for_push(at, host)
  local l = read_state(at, host)
  if l.state.n == 0 then l.packed_window = {} end
  return l
end

local function window_of(l)
  if l.packed_window then return l.packed_window end
  l.packed_window = {}
  for _, text in ipairs(redis.call('HVALS', l.h)) do
    if is_delivery(text) then l.packed_window[#l.packed_window + 1] = text end
  end
  return l.packed_window
end

-- head_of returns the head of a chain, but for its number, nil if it has none in the window.
local function head_of(l, chain)
  for _, text in ipairs(window_of(l)) do
    local e = string.find(text, chain, 1, true) and unpack_delivery(0, text)
    if e and e.chain == chain then return e end
  end
end

-- tail_of returns the body of the newest delivery of a chain, nil if it has none, and where that is. If the head is taken and
-- older ones were retried, these will go after it: so the newest of them is the tail.
local function tail_of(l, chain)
  local _, count, body = backlog_of(l, chain)
  if count then return body, 'backlog' end
  local head = head_of(l, chain)
  if not head then return end
  local last = l.state.n > l.state.k + #l.packed_window and last_behind(l, chain)
  if last then return last.body, 'behind' end
  return head.body, 'window'
end

-- tail_number returns the number of the newest delivery of a chain.
local function tail_number(l, chain, where)
  if where == 'backlog' then return last_in_backlog(l, chain).id end
  if where == 'behind' then return last_behind(l, chain).id end
  local raw = redis.call('HGETALL', l.h)
  for i = 2, #raw, 2 do
    if is_delivery(raw[i]) and unpack_delivery(0, raw[i]).chain == chain then return tonumber(raw[i - 1]) end
  end
end

-- is_repeat reports whether a chain ends with a delivery of these bytes that is not superseded: such a one may be cancelled.
local function is_repeat(l, d, chain)
  local body, where = tail_of(l, chain)
  if body ~= d.body then return false end
  local deleted = d.role == MAKES and tombstone(d.object) or 0
  return deleted == 0 or tail_number(l, chain, where) > deleted
end

-- sort_out returns of recipients, {{host, {path, headers, chain, …}, the past of each, if they have one}, …}, those to be accepted
-- likewise, how many these are, how many are duplicates, and those refused. Recipients with a past are all accepted. look reads the lane with a number. Where repeats is false none can be a
-- duplicate, and look may return nil for a lane that takes everything.
local function sort_out(to, look, d, repeats)
  local accepted, n, duplicates, refused = {}, 0, 0, {}
  for i, lane in ipairs(to) do
    local host, items, l = lane[1], lane[2], look(i - 1, lane[1])
    if not d.past and (repeats or l and refuses(l.state)) then
      items = {}
      for j = 1, #lane[2], 3 do
        local path, headers, chain = lane[2][j], lane[2][j + 1], lane[2][j + 2]
        local why = l and refusal(l, d.priority, #items > 0)
        if repeats and is_repeat(l, d, chain) then
          duplicates = duplicates + 1
        elseif why then
          refused[#refused + 1] = {host .. split_listed(path), why}
        else
          items[#items + 1], items[#items + 2], items[#items + 3] = path, headers, chain
        end
      end
    end
    if #items > 0 then accepted[#accepted + 1] = {host, items, lane[3]} end
    n = n + #items / 3
  end
  return accepted, n, duplicates, refused
end

-- list notes where accepted deliveries go, behind those that are listed, and returns the ordinal of the first.
local function list(act, accepted)
  local inboxes = {}
  for _, lane in ipairs(accepted) do
    for j = 1, #lane[2], 3 do inboxes[#inboxes + 1] = lane[1] .. lane[2][j] end
  end
  return (call_all('RPUSH', act.r, inboxes) or 0) - #inboxes
end

-- arrive puts a lane where Due finds it, after a delivery came that is due at once. A lane that is due by then anyway
-- keeps its time.
local function arrive(l, priority)
  local s = l.state
  if is_blocked(s) or l.pause_ends == math.huge then return move(l, IDLE, 0) end
  local at, before = math.max(s.w, s.x, l.pause_ends), found_at(l)
  if before and before > math.max(at, now) then at = math.max(at, offered_until(l.host)) end -- what is offered is found by then
  if at <= now then at = AT_ONCE end
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
  e.id = math.max(s.i + 1, numbers.first)
  numbers.last = math.max(numbers.last, e.id)
  s.i, s.n, l.changed = e.id, s.n + 1, true
  rate('accepted', 1)
  if priority == 0 and band(s.f, UNAVAILABLE) > 0 then
    hasten(l)
    l.arrived = 0
  end
  if s.k > 0 then
    priority = enter_backlog(l, e)
  elseif head_of(l, e.chain) then
    behind(l, e)
    return
  elseif #l.packed_window >= WINDOW then
    priority = enter_backlog(l, e)
  else
    local text = pack(e)
    set_field(l, e.id, text)
    l.packed_window[#l.packed_window + 1] = text
  end
  if not l.arrived or priority < l.arrived then l.arrived = priority end
end

-- push_all appends deliveries of an activity to their lanes, which are given by host, and to its list. d describes it. The
-- lanes of what has a past must be read whole.
local function push_all(act, accepted, lanes, d)
  local ordinal = list(act, accepted)
  for _, lane in ipairs(accepted) do
    local l, items, pasts = lanes[lane[1]], lane[2], lane[3]
    for j = 1, #items, 3 do
      local e = new_delivery(d, ordinal, (split_listed(items[j])), items[j + 1], items[j + 2])
      if pasts then adopt(act, l, e, pasts[(j + 2) / 3], d) else push(l, e) end
      ordinal = ordinal + 1
    end
    if l.arrived then arrive(l, l.arrived) end
    if not pasts then write_state(l) elseif l.changed then write(l) end
    l.arrived, l.changed = nil, false
  end
end
