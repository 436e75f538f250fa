-- Where lanes are found, and what all scripts count. It stands after lane.lua.

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

-- found_at returns when Due finds a lane as things are, nil if it doesn't.
local function found_at(l)
  local s = l.state
  if s.z == IDLE then return end
  return tonumber(redis.call('ZSCORE', KEYS[1 + s.z], l.host)) or s.d > 0 and s.d * 1000
end

local function later_entry(l) return string.format('%08x%d', l.state.d, l.state.z) .. l.host end

-- put_later puts a lane among those due much later. They are due by the second.
local function put_later(l, at)
  local s = l.state
  s.d = math.ceil(at / 1000)
  include(LATER, later_entry(l))
  local first = tonumber(redis.call('HGET', STATS, 'later') or 0)
  if first == 0 or s.d < first then redis.call('HSET', STATS, 'later', s.d) end
end

-- move puts a lane into the set where Due finds it, and wakes nodes if it is due earlier than it was. Much later is where
-- a failing host waits, for nobody works on a lane that is there.
local function move(l, set_number, at)
  local s, before = l.state, found_at(l) or math.huge
  local much_later = set_number ~= IDLE and at - now > MUCH and s.x <= now
  local was_later = s.d > 0 and exclude(LATER, later_entry(l))
  if s.z ~= IDLE and not was_later and (s.z ~= set_number or much_later) then redis.call('ZREM', KEYS[1 + s.z], l.host) end
  s.z, s.d = set_number, 0
  if set_number == IDLE then return end
  if much_later then put_later(l, at) else redis.call('ZADD', KEYS[1 + set_number], at, l.host) end
  if math.max(at, now) < before then wake = math.min(wake or math.huge, math.max(0, at - now)) end
end

-- What the script did, to be added to the totals and to the counts of this minute; see signal.
local totals, rates = {}, {}

local function total(name, n) totals[name] = (totals[name] or 0) + n end

local function rate(kind, n) rates[kind] = (rates[kind] or 0) + n end

-- count_rates adds what the script did to the counts of this minute, and begins a new minute when it is time.
local function count_rates()
  if not next(rates) then return end
  local minute = math.floor(now / 60000)
  local last = tonumber(redis.call('HGET', STATS, 'minute') or 0)
  if minute ~= last then
    redis.call('HSET', STATS, 'minute', minute)
    for _, kind in ipairs({'accepted', 'delivered', 'dead'}) do
      local before = minute == last + 1 and redis.call('HGET', STATS, 'minute_' .. kind) or 0
      redis.call('HSET', STATS, 'before_' .. kind, before, 'minute_' .. kind, 0)
    end
  end
  for kind, n in pairs(rates) do redis.call('HINCRBY', STATS, 'minute_' .. kind, n) end
end

-- note_state keeps the hosts by their states. Where the state is another than before, it is in l.turned.
local function note_state(l)
  local label = state(l.state)
  if label == l.label then return end
  if l.label then
    redis.call('HINCRBY', STATS, l.label, -1)
    exclude(HOSTS, string.sub(l.label, 1, 1) .. l.host)
  end
  redis.call('HINCRBY', STATS, label, 1)
  include(HOSTS, string.sub(label, 1, 1) .. l.host)
  if label ~= (l.label or 'healthy') then l.turned = label end
end

-- exceeds tells whether Sweep has something to give up of a lane.
local function exceeds(s)
  return s.b > 0 and s.n > 0 or band(s.f, UNAVAILABLE) > 0 and s.n > 1 or LANE > 0 and s.n > LANE
end

-- note_excess has Sweep look at a lane. It does so again when deliveries came to it or came back.
local function note_excess(l)
  local s, is = l.state, exceeds(l.state)
  if is and (s.v == 0 or l.changed) then redis.call('ZADD', EXCESS, now, l.host) end
  if not is and s.v == 1 then redis.call('ZREM', EXCESS, l.host) end
  s.v = is and 1 or 0
end

local function write_state(l)
  note_state(l)
  note_excess(l)
  local values, last = {}, 1
  for i, name in ipairs(NUMBERS) do
    values[i] = l.state[name]
    if values[i] ~= 0 then last = i end
  end
  local packed = cmsgpack.pack(unpack(values, 1, last))
  if packed ~= l.packed then redis.call('HSET', l.h, 's', packed) end
end

-- write writes what changed of a lane that was read, and puts it where Due finds it.
local function write(l)
  for id, e in pairs(l.dirty) do redis.call('HSET', l.h, id, pack(e, l.failure)) end
  for _, id in ipairs(l.gone) do redis.call('HDEL', l.h, id) end
  move(l, place_of(l))
  write_state(l)
end

-- signal counts what was done, and tells the nodes what was found out about when lanes are due. It stands at the end of a
-- script.
local function signal()
  for name, n in pairs(totals) do redis.call('HINCRBY', STATS, name, n) end
  count_rates()
  if wake then redis.call('PUBLISH', WAKES, string.format('%.0f', wake)) end
end
