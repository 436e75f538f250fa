-- Where lanes are found, and what all scripts count. It stands after lane.lua.

-- The changes of the script, to be written at its end; see signal.
local totals, rates = {}, {} -- by what they are added to: the totals, and the counts of this minute
local due_adds, host_adds = {}, {} -- by host {number of the set that it is added to, when it is due}, and what is added to the hosts known
local at_end = {} -- what else is to be done

local function offered_until(host) return tonumber(redis.call('ZSCORE', OFFERED, host) or 0) end

-- heads_due returns the best priority of what may go at a time, and of the rest the delivery due first. A taken delivery
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

-- AT_ONCE is when a lane is due that becomes due just now. In the sets it stands as minus since when: so it is due also if the
-- clock goes back a little.
local AT_ONCE = -now

-- place_of returns the set that a lane belongs into, and when it is due.
local function place_of(l)
  local s = l.state
  if is_blocked(s) or l.pause_ends == math.huge or s.n == 0 then return IDLE, 0 end
  local best, later = heads_due(l, now, true)
  if not best and not later then return IDLE, 0 end
  local at = math.max(s.w, s.x, l.pause_ends)
  if l.known and not l.held and s.z ~= IDLE then at = math.max(at, offered_until(l.host)) end
  if best or band(s.f, PROBING) > 0 then
    if at <= now then at = AT_ONCE end
  else
    at = math.max(at, due(later))
  end
  if at > now and (not best or later and due(later) <= at) then best = heads_due(l, at, true) end
  local class = band(s.f, GOOD) > 0 and 0 or 1
  return DUE + class * 3 + (best or later.priority), at
end

-- found_at returns when Due finds a lane as things are, nil if it doesn't.
local function found_at(l)
  local s, added = l.state, due_adds[l.host]
  if s.z == IDLE then return end
  if added then return added[2] end
  if s.d * 1000 > now + MUCH then return s.d * 1000 end -- no script has looked at it yet
  return tonumber(redis.call('ZSCORE', DUE_SETS[s.z], l.host)) or s.d > 0 and s.d * 1000
end

local function later_entry(l) return string.format('%08x%d', l.state.d, l.state.z) .. l.host end

-- put_later puts a lane among those due much later. They are due by the second.
local function put_later(l, at)
  local s = l.state
  s.d = math.ceil(at / 1000)
  include(LATER, {later_entry(l)})
  local first = tonumber(redis.call('HGET', STATS, 'later') or 0)
  if first == 0 or s.d < first then redis.call('HSET', STATS, 'later', s.d) end
end

local function total(name, n) totals[name] = (totals[name] or 0) + n end

local function rate(kind, n) rates[kind] = (rates[kind] or 0) + n end

-- add_all adds lanes to the sets where Due finds them.
local function add_all()
  local sets = {}
  for host, add in pairs(due_adds) do
    local members = sets[add[1]] or {}
    members[#members + 1], members[#members + 2] = add[2], host
    sets[add[1]] = members
  end
  for set_number, members in pairs(sets) do call_all('ZADD', DUE_SETS[set_number], members) end
end

-- move puts a lane into the set where Due finds it, and wakes nodes if it is due earlier than it was: before, if that is
-- known. Much later is where a failing host waits, for nobody works on a lane that is there.
local function move(l, set_number, at, before)
  local s = l.state
  before = set_number ~= IDLE and (before or l.found or found_at(l)) or math.huge
  local much_later = set_number ~= IDLE and at - now > MUCH and s.x <= now
  local was_later = s.d > 0 and exclude(LATER, later_entry(l))
  if s.z ~= IDLE and not was_later and (s.z ~= set_number or much_later) then redis.call('ZREM', DUE_SETS[s.z], l.host) end
  s.z, s.d, due_adds[l.host] = set_number, 0, nil
  if set_number == IDLE then return end
  if at <= now and before <= now and before ~= 0 then at = before end -- it goes on waiting
  if much_later then put_later(l, at) else due_adds[l.host] = {set_number, at} end
  if math.max(at, now) < before then wake = math.min(wake or math.huge, math.max(0, at - now)) end
end

-- begin_minute makes what was counted in the last minute that of the one before.
local function begin_minute(minute, last)
  redis.call('HSET', STATS, 'minute', minute)
  for _, kind in ipairs({'accepted', 'delivered', 'dead'}) do
    local before = minute == last + 1 and redis.call('HGET', STATS, 'minute_' .. kind) or 0
    redis.call('HSET', STATS, 'before_' .. kind, before, 'minute_' .. kind, 0)
  end
end

-- count_all adds what the script did to the totals and to the counts of this minute, or of a new one if it is time.
local function count_all()
  for kind, n in pairs(rates) do totals['minute_' .. kind] = n end
  local names, sums = {'minute'}, {}
  for name, n in pairs(totals) do
    if n ~= 0 then names[#names + 1] = name end
  end
  if #names == 1 then return end
  local old, minute = redis.call('HMGET', STATS, unpack(names)), math.floor(now / 60000)
  local last = tonumber(old[1] or 0)
  local new = next(rates) and last ~= minute
  if new then begin_minute(minute, last) end
  for i = 2, #names do
    local count = not (new and string.find(names[i], '^minute_')) and old[i] or 0
    sums[#sums + 1], sums[#sums + 2] = names[i], count + totals[names[i]]
  end
  redis.call('HSET', STATS, unpack(sums))
end

-- order_behind returns the order that made a host's state, as the feed has it, or nothing.
local function order_behind(l, label)
  local order = (label == 'paused' or label == 'blocked') and orders_for(l, string.sub(label, 1, 1))[1]
  return order and {order.letter, order.host, order.since, order.ends, order.covers, order.reason, order.by} or {}
end

-- note_state keeps the hosts by their states, and writes to the feed where one has changed, unless the lane is imported.
local function note_state(l)
  local label = state(l.state)
  if label == l.label then return end
  if l.label then
    total(l.label, -1)
    exclude(HOSTS, string.sub(l.label, 1, 1) .. l.host)
  end
  total(label, 1)
  host_adds[#host_adds + 1] = string.sub(label, 1, 1) .. l.host
  if label ~= (l.label or 'healthy') and not l.imported then
    l.state.c = now
    feed(FED_STATE, l.host, label, l.by or '', unpack(order_behind(l, label)))
  end
  l.label = label
end

-- exceeds reports whether Sweep has something to drop from a lane.
local function exceeds(s)
  return is_blocked(s) and s.n > 0 or band(s.f, UNAVAILABLE) > 0 and s.n > 1 or LANE > 0 and s.n > LANE
end

-- note_answer counts the hosts that ever answered by how they did so last.
local function note_answer(l)
  local kind = answer_kind(l.state)
  if kind == l.answer then return end
  if l.answer > 0 then total('answered:' .. l.answer, -1) end
  if kind > 0 then total('answered:' .. kind, 1) end
  l.answer = kind
end

-- changes_at returns when a host's state changes by itself, for it has waited as it asked or an order of its own ends; nil if
-- it doesn't.
local function changes_at(l)
  local s, at = l.state, math.huge
  if l.label == 'throttled' then at = s.w end
  if s.p > 1 then at = math.min(at, s.p) end
  if s.b > 1 then at = math.min(at, s.b) end
  return at < math.huge and at or nil
end

-- note_excess has Sweep look at a lane: at once and again when deliveries came to it or came back where something is to be
-- given up, and when the host's state changes by itself. It comes after note_state.
local function note_excess(l)
  local s, at = l.state, changes_at(l)
  local why = exceeds(s) and 1 or at and 2 or 0
  if why == 1 and (s.v ~= 1 or l.changed) then redis.call('ZADD', EXCESS, now, l.host) end
  if why == 2 and (s.v ~= 2 or l.ordered) then redis.call('ZADD', EXCESS, at, l.host) end
  if why == 0 and s.v > 0 then redis.call('ZREM', EXCESS, l.host) end
  s.v = why
end

local function write_state(l)
  note_state(l)
  note_answer(l)
  note_excess(l)
  local packed = pack_state(l.state)
  if packed ~= l.packed then set_field(l, 's', packed) end
  call_all('HSET', l.h, l.fields)
  if l.lapsed then redis.call('HDEL', l.h, unpack(l.lapsed)) end
  l.packed, l.fields = packed, {}
end

-- write writes what changed of a lane that was read, and puts it where Due finds it.
local function write(l)
  for id, e in pairs(l.dirty) do set_field(l, id, pack(e, l.failure)) end
  call_all('HDEL', l.h, l.gone)
  if l.lost_state then
    redis.log(redis.LOG_WARNING, 'postrider: the field s of ' .. l.h .. ' is damaged: the state of the lane is counted from what it holds')
    for _, set in ipairs(DUE_SETS) do redis.call('ZREM', set, l.host) end
  end
  move(l, place_of(l))
  write_state(l)
end

-- signal writes what is written once for all lanes, and tells the nodes what was found out about when these are due. It
-- stands at the end of a script.
local function signal()
  for _, act in ipairs(at_end) do act() end
  add_all()
  include(HOSTS, host_adds)
  keep_time()
  count_all()
  if wake then redis.call('PUBLISH', WAKES, string.format('%.0f', wake)) end
end
