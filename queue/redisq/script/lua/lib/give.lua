-- How deliveries are taken from a lane. It stands after activity.lua.
local MOVES = 1000 -- deliveries moved behind others in one call at most, or a quarter as many superseded; the rest wait
local DRAWS = 8 -- of a probe from a backlog, until one is not behind another
local moves = 0
local deleted -- whether anything was: the script has read that
math.randomseed(micros % 2 ^ 31)

local take_shares = TAKE_SHARES

-- check_hash ends the script if a key holds something other than a hash.
local function check_hash(...)
  for _, key in ipairs({...}) do redis.call('HEXISTS', key, '') end
end

-- may_give prepares a lane that was read for give. It comes before anything is changed, as any key may be broken.
local function may_give(l)
  if deleted == nil then
    deleted = redis.call('EXISTS', TOMBSTONES) == 1
    if deleted then check_hash(TOMBSTONES, BODY_INFO) end
  end
  l.length = {[0] = 0, 0, 0}
  if l.state.k == 0 then return end
  check_hash(l.c)
  redis.call('ZCARD', l.w)
  for p = 0, 2 do l.length[p] = redis.call('LLEN', l.q[p]) end
end

local function pop_backlog(l, p)
  redis.call('LPOP', l.q[p])
  l.length[p] = l.length[p] - 1
end

-- front returns the oldest of a backlog that is not behind another. Those that are it moves to where they wait.
local function front(l, priority)
  while l.length[priority] > 0 do
    local text = redis.call('LINDEX', l.q[priority], 0)
    if not text then return end
    local e = from_numbered(text)
    if not l.heads[e.chain] then return e end
    if moves >= MOVES then return end
    moves = moves + 1
    behind(l, e)
    leave_backlog(l, e.chain)
    pop_backlog(l, priority)
  end
end

local function newest_first(a, b) return a.id > b.id end

-- ready_heads sorts what may go of the window by priority, oldest first.
local function ready_heads(l)
  local ready = {[0] = {}, {}, {}}
  for _, e in pairs(l.window) do
    if not has(e, TAKEN) and due(e) <= now then table.insert(ready[e.priority], e) end
  end
  for p = 0, 2 do table.sort(ready[p], newest_first) end
  return ready
end

-- candidate returns the oldest delivery of a priority, and whether it comes from the backlog.
local function candidate(l, ready, p)
  local head, new = ready[p][#ready[p]], front(l, p)
  if head and new and new.id < head.id then return new, true end
  return head or new, not head
end

-- next_of_priority returns the oldest delivery of a priority, which is no candidate any more, or nil.
local function next_of_priority(l, ready, p)
  local e, new = candidate(l, ready, p)
  if not e then return end
  if not new then return table.remove(ready[p]) end
  leave_backlog(l, e.chain)
  pop_backlog(l, p)
  put(l, e)
  return e
end

-- next_up returns the delivery whose turn it is, or nil.
local function next_up(l, ready)
  for _, p in ipairs({take_shares[l.state.u % #take_shares + 1], 0, 1, 2}) do
    local e = next_of_priority(l, ready, p)
    if e then
      l.state.u = (l.state.u + 1) % #take_shares
      return e
    end
  end
end

-- draw_new returns a random delivery of a backlog that is alone of its chain in the lane, or nil if it finds none.
local function draw_new(l, p, length)
  for _ = 1, DRAWS do
    local text = redis.call('LINDEX', l.q[p], math.random(0, length - 1))
    local e = from_numbered(text)
    local _, count = backlog_of(l, e.chain)
    if count == 1 and not l.heads[e.chain] then return e, text end
  end
end

-- probe_priority draws a priority of which something is due, the best if the host is given up. It returns nil if there is none.
local function probe_priority(l, ready)
  local due_now = {}
  for p = 0, 2 do
    if candidate(l, ready, p) then table.insert(due_now, p) end
  end
  if #due_now == 0 or band(l.state.f, UNAVAILABLE) > 0 then return due_now[1] end
  return due_now[math.random(#due_now)]
end

-- draw_probe returns a random one of what is due, or nil: the first might be one that always fails, and so might all of the
-- best priority.
local function draw_probe(l, ready)
  local p = probe_priority(l, ready)
  if not p then return end
  local length = l.length[p]
  local e, text
  if math.random(#ready[p] + length) > #ready[p] then e, text = draw_new(l, p, length) end
  if e then
    take_out(l, e, p, text)
    l.length[p], l.state.n = length - 1, l.state.n + 1
    put(l, e)
    return e
  end
  if #ready[p] > 0 then return table.remove(ready[p], math.random(#ready[p])) end
  return next_of_priority(l, ready, p)
end

-- is_outdated reports whether a delivery that was never tried and waited for long makes what was deleted since.
local function is_outdated(e)
  if not deleted or e.attempts > 0 or e.last ~= '' or now - math.min(created_at(e), due(e)) < SUPERSEDED_AFTER then return false end
  local role, object = about_object(e.body)
  return role == MAKES and is_superseded(object, e.id)
end

-- leave_out takes what is superseded out of the lane, so that the next of its chain may go.
local function leave_out(l, e, ready, superseded)
  moves = moves + 4 -- it takes as long
  drop(l, e)
  superseded[#superseded + 1] = letter_name(e.activity, e.ordinal)
  local after = l.heads[e.chain]
  if not after or due(after) > now then return end
  table.insert(ready[after.priority], after)
  table.sort(ready[after.priority], newest_first)
end

-- pop returns the delivery whose turn it is and that is not superseded, or nil, and whether it is early: a probe may be.
local function pop(l, ready, probing, superseded)
  while moves < MOVES do
    local e, early = (probing and draw_probe or next_up)(l, ready), 0
    if not e and probing then
      local _, later = heads_due(l, now)
      e, early = later, 1
    end
    if not e or not is_outdated(e) then return e, early end
    leave_out(l, e, ready, superseded)
  end
end

-- give takes up to n deliveries from a lane: each is {activity, ordinal, path, headers,
-- attempts, whether it is early, body}. It returns also the names of those that are superseded and out of the lane (see
-- OUTDATED), and what else is ready.
local function give(l, n)
  local s, answer, superseded, ready = l.state, {}, {}, ready_heads(l)
  if s.w > now or is_paused(s) or is_blocked(s) then return answer, superseded, ready end
  local probing = band(s.f, PROBING) > 0
  if probing then n = math.min(n, 1 - count_taken(l)) end
  while #answer < n do
    local e, early = pop(l, ready, probing, superseded)
    if not e then break end
    e.flags = bor(e.flags, TAKEN)
    change(l, e)
    answer[#answer + 1] = {e.activity, e.ordinal, e.rest, e.headers, e.attempts, early, e.body}
  end
  for _, name in ipairs(superseded) do redis.call('ZADD', OUTDATED, now, name) end
  return answer, superseded, ready
end

-- has_more reports whether a lane has more to give now.
local function has_more(l, ready)
  for p = 0, 2 do
    if candidate(l, ready, p) then return 1 end
  end
  return moves >= MOVES and 1 or 0
end
