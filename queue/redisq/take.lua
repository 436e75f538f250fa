#!lua flags=allow-oom
-- Takes deliveries from leased lanes.
--
-- KEYS[FIRST…] six keys for each lane
-- ARGV[2…]     of each lane: host, token, how long its lease lasts in ms, how many deliveries at most
-- RETURNS      for each lane {} if a later token was seen, else {record, epoch, whether there is more, deliveries, now};
--              each delivery is {activity, ordinal, path, headers, attempts, whether it is early}
local MOVES = 1000 -- deliveries moved behind others in one call at most; the rest wait for the next
local moves = 0
-- Of eight takes five begin at high, two at normal and one at low, so that all get on.
local SHARES = {0, 1, 0, 0, 2, 0, 1, 0}

-- front returns the oldest of a backlog that is not behind another. Those that are it moves to where they wait.
local function front(l, priority)
  while l.state.k > 0 do
    local text = redis.call('LINDEX', l.q[priority], 0)
    if not text then return end
    local e = from_numbered(text)
    if not l.heads[e.ordering] then return e end
    if moves >= MOVES then return end
    moves = moves + 1
    behind(l, e)
    leave_backlog(l, e.ordering)
    redis.call('LPOP', l.q[priority])
  end
end

-- ready_heads sorts what may go of the window by priority, oldest first.
local function ready_heads(l)
  local ready = {[0] = {}, {}, {}}
  for _, e in pairs(l.window) do
    if not has(e, TAKEN) and due(e) <= now then table.insert(ready[e.priority], e) end
  end
  for p = 0, 2 do table.sort(ready[p], function(a, b) return a.id > b.id end) end
  return ready
end

-- candidate returns the oldest delivery of a priority, and whether it comes from the backlog.
local function candidate(l, ready, p)
  local head, new = ready[p][#ready[p]], front(l, p)
  if head and new and new.id < head.id then return new, true end
  return head or new, not head
end

-- pop returns the delivery whose turn it is, or nil. A probe is always the best by priority.
local function pop(l, ready, probing)
  local turn = probing and 0 or SHARES[l.state.u % #SHARES + 1]
  for _, p in ipairs({turn, 0, 1, 2}) do
    local e, new = candidate(l, ready, p)
    if e then
      if not probing then l.state.u = (l.state.u + 1) % #SHARES end
      if new then
        leave_backlog(l, e.ordering)
        redis.call('LPOP', l.q[p])
        put(l, e)
      else
        table.remove(ready[p])
      end
      return e
    end
  end
end

local function more(l, ready)
  for p = 0, 2 do
    if candidate(l, ready, p) then return 1 end
  end
  return moves >= MOVES and 1 or 0
end

local function take(l, n)
  local s, answer = l.state, {}
  if s.w > now or s.p > 0 or s.b > 0 then return answer, ready_heads(l) end
  local ready, probing = ready_heads(l), band(s.f, PROBING) > 0
  if probing then n = math.min(n, 1 - taken(l)) end
  while #answer < n do
    local e, early = pop(l, ready, probing), 0
    if not e and probing then
      local _, later = heads_due(l, now)
      e, early = later, 1
    end
    if not e then break end
    e.flags = bor(e.flags, TAKEN)
    set(l, e)
    answer[#answer + 1] = {e.activity, e.ordinal, e.rest, e.headers, e.attempts, early}
  end
  return answer, ready
end

local lanes, offered, answer = {}, {}, {}
for i = 2, #ARGV, 4 do lanes[i] = read(FIRST + 6 * (i - 2) / 4, ARGV[i]) end -- all, before anything is changed: one may be broken
for i = 2, #ARGV, 4 do
  local l, token, ttl = lanes[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if not l.known or token < l.state.t then
    answer[#answer + 1] = {}
  else
    if token > l.state.t then
      hand_back(l)
      l.state.t = token
    end
    l.state.x, l.held, l.found = now + ttl, true, l.state.z ~= IDLE and l.state.d == 0 and 0 -- it was found, so it was due
    offered[#offered + 1] = l.host
    local deliveries, ready = take(l, tonumber(ARGV[i + 3]))
    answer[#answer + 1] = {l.record, l.state.g, more(l, ready), deliveries, now}
    write(l)
  end
end
call_all('ZREM', OFFERED, offered)
signal()
return answer
