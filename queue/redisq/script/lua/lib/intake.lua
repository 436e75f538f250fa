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
  local id, description, uri, ordering, key, priority, ttl, role, object, refers, digest, epitaph, marks = unpack(ARGV, at, at + 12)
  local body, held = name_body(digest)
  return {
    id = id, description = description, uri = uri, ordering = ordering, key = key, priority = tonumber(priority), ttl = tonumber(ttl),
    role = tonumber(role), object = object, refers = refers, digest = digest, epitaph = epitaph, marks = marks, body = body, held = held,
    created = past and past[1] or now, past = past,
  }
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
  local l = {
    host = host, h = KEYS[at], c = KEYS[at + 1], w = KEYS[at + 2], q = {[0] = KEYS[at + 3], KEYS[at + 4], KEYS[at + 5]}, fields = {},
  }
  open_state(l, redis.call('HGET', l.h, 's'))
  if l.state.n == 0 then l.packed_window, l.window_text = {}, '' end
  return l
end

-- window_of returns the packed deliveries of a lane's window, and what else its hash has.
local function window_of(l)
  if not l.packed_window then
    l.packed_window = redis.call('HVALS', l.h)
    l.window_text = table.concat(l.packed_window)
  end
  return l.packed_window
end

-- size_of returns how many deliveries are in the window.
local function size_of(l)
  local n = 0
  for _, text in ipairs(window_of(l)) do
    if is_delivery(text) then n = n + 1 end
  end
  return n
end

local function has_room(l) return #window_of(l) < WINDOW or size_of(l) < WINDOW end

-- head_of returns the head of a chain, but for its number, nil if it has none in the window.
local function head_of(l, chain)
  local texts = window_of(l)
  if not string.find(l.window_text, chain, 1, true) then return end
  for _, text in ipairs(texts) do
    local e = is_delivery(text) and string.find(text, chain, 1, true) and unpack_delivery(0, text)
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
  local last = l.state.n > l.state.k + size_of(l) and last_behind(l, chain)
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
  local last = d.role == MAKES and tombstone(d.object) or 0
  return last == 0 or tail_number(l, chain, where) > last
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

-- list_accepted notes where accepted deliveries go, behind those that are listed, and returns the ordinal of the first.
local function list_accepted(act, accepted)
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
  local class, slack = band(s.f, GOOD) > 0 and 0 or 1, s.d > 0 and 1000 or 0 -- later ones are due by the second
  if before and before > math.max(at, now) + slack then at = math.max(at, offered_until(l.host)) end -- what is offered is found by then
  if at <= now then at = AT_ONCE end
  if before and before <= math.max(at, now) + slack then
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
  elseif not has_room(l) then
    priority = enter_backlog(l, e)
  else
    local text = pack(e)
    set_field(l, e.id, text)
    l.packed_window[#l.packed_window + 1], l.window_text = text, l.window_text .. text
  end
  if not l.arrived or priority < l.arrived then l.arrived = priority end
end

-- push_all appends deliveries of an activity to their lanes, which are given by host, and to its list. d describes it.
local function push_all(act, accepted, lanes, d)
  local ordinal = list_accepted(act, accepted)
  for _, lane in ipairs(accepted) do
    local l, items = lanes[lane[1]], lane[2]
    for j = 1, #items, 3 do
      push(l, new_delivery(d, ordinal, (split_listed(items[j])), items[j + 1], items[j + 2]))
      ordinal = ordinal + 1
    end
    if l.arrived then arrive(l, l.arrived) end
    write_state(l)
    l.arrived, l.changed = nil, false
  end
end

-- What enqueue.lua says of the arguments of a submission, where they are behind what described reads.
local MARKS, BODY, NONCE, PRINT, HEAD, LASTS, PASSED, TO, SUBMISSION = 12, 13, 14, 15, 16, 17, 18, 19, 20

-- lanes_from returns the number of the first key of the lanes of a submission, whose keys begin at KEYS[key].
local function lanes_from(at, key) return key + (ARGV[at + PRINT] ~= '' and 3 or 2) + mark_keys(ARGV[at + MARKS]) end

-- answer_known returns the answer of a submission that is stored, for it is known by its claim or by its ID, which makes it kind; nil
-- of another.
local function answer_known(at, key, kind)
  if ARGV[at + PRINT] ~= '' then
    local claim = redis.call('HMGET', KEYS[key + 2], 'f', 'o', 'h', 'n', 'd', 'x')
    if not claim[1] then return end
    if claim[1] ~= ARGV[at + PRINT] then return {'mismatch'} end
    return {claim[2] == ARGV[at + NONCE] and 'new' or 'known', claim[3], claim[4], claim[5], claim[6]}
  end
  local n = redis.call('HGET', KEYS[key], 'n')
  if not n then return end
  local duplicates, refused, more = 0, '', redis.call('HGET', KEYS[key], 'y')
  if more then duplicates, refused = cmsgpack.unpack(more) end
  return {kind, ARGV[at + HEAD], n, duplicates, refused}
end

-- remember sees to it that answer_known knows a submission.
local function remember(at, key, n, duplicates, refused)
  if ARGV[at + PRINT] ~= '' then
    redis.call('HSET', KEYS[key + 2], 'f', ARGV[at + PRINT], 'o', ARGV[at + NONCE], 'h', ARGV[at + HEAD], 'n', n, 'd', duplicates, 'x', refused)
    redis.call('PEXPIRE', KEYS[key + 2], ARGV[at + LASTS])
  elseif duplicates > 0 or refused ~= '' then
    redis.call('HSET', KEYS[key], 'y', cmsgpack.pack(duplicates, refused))
  end
end
