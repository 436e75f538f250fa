-- Functions that the scripts share which touch backlogs. It stands after lane.lua.

-- backlog_of returns of a chain that is in the backlog to which part it belongs, how many of it there are, and the body of
-- the newest; nil of others.
local function backlog_of(l, chain)
  if l.state.k == 0 then return end
  local priority, count, tail = string.match(redis.call('HGET', l.c, chain) or '', '^(%d):(%d+):?(.*)$')
  return tonumber(priority), tonumber(count), tail
end

local function keep_backlog(l, chain, priority, count, tail)
  if count == 0 then return redis.call('HDEL', l.c, chain) end
  redis.call('HSET', l.c, chain, priority .. ':' .. count .. ':' .. tail)
end

-- leave_backlog counts out of the backlog what was the oldest of its chain there.
local function leave_backlog(l, chain)
  local priority, count, tail = backlog_of(l, chain)
  l.state.k = l.state.k - 1
  if not count then return end -- the delivery, or what was counted, is damaged
  keep_backlog(l, chain, priority, count - 1, tail)
end

-- join_backlog counts a delivery into the backlog as the newest of its chain, and returns where it belongs: where others of
-- its chain are already, or to those of its priority.
local function join_backlog(l, e)
  local priority, count = backlog_of(l, e.chain)
  priority = priority or e.priority
  l.state.k = l.state.k + 1
  keep_backlog(l, e.chain, priority, (count or 0) + 1, e.body)
  return priority
end

-- enter_backlog appends a delivery to the backlog, and returns to which.
local function enter_backlog(l, e)
  local priority = join_backlog(l, e)
  redis.call('RPUSH', l.q[priority], with_number(e))
  return priority
end

-- last_in_backlog returns the newest delivery of a chain in the backlog: it looks at all that came after that.
local function last_in_backlog(l, chain)
  local priority = backlog_of(l, chain)
  local last = -1
  while priority do
    local texts = redis.call('LRANGE', l.q[priority], last - 99, last)
    for i = #texts, 1, -1 do
      local e = string.find(texts[i], chain, 1, true) and from_numbered(texts[i])
      if e and e.chain == chain then return e end
    end
    if #texts < 100 then return end
    last = last - 100
  end
end

-- find_tail notes which delivery of a chain is the newest in the backlog, after one went or came that was not at its ends.
local function find_tail(l, chain)
  local priority, count = backlog_of(l, chain)
  local e = last_in_backlog(l, chain)
  if e then keep_backlog(l, chain, priority, count, e.body) end
end

-- take_out takes a delivery out of a lane, wherever it is: where is 'window', 'behind' or the priority of a backlog, text
-- what is stored there. It reports whether it was still there.
local function take_out(l, e, where, text)
  if where == 'window' then
    drop(l, e)
    return true
  end
  if where == 'behind' then
    if redis.call('ZREM', l.w, text) == 0 then return false end
  else
    if redis.call('LREM', l.q[where], 1, text) == 0 then return false end
    local _, count, tail = backlog_of(l, e.chain)
    leave_backlog(l, e.chain)
    if count and count > 1 and tail == e.body then find_tail(l, e.chain) end
  end
  l.state.n = l.state.n - 1
  return true
end
