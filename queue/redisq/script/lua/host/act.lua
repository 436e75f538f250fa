#!lua flags=allow-oom
-- Does to a host what an operator or the app asks for, but for a reset.
--
-- USES lane(clock, now, band, has, due, order_of, apply_orders, orders_for, end_throttle, read_lane, change, hasten)
-- USES feed(feed_action, newly_fed), covers(cover, new_order), place(heads_due, write, signal)
-- KEYS.lane×6 the lane
-- ARGV.host   the host
-- ARGV.action the action, see queue.HostAction
-- ARGV.spread whether the other partitions no longer have an order of this host for others, if it is not given again
-- ARGV.lasts  how long an order holds, in ms, 0: without end
-- ARGV.covers whether it covers others
-- ARGV.reason why
-- ARGV.by     by whom
-- ARGV.said   the entry of the feed, if this changes anything
-- RETURNS     {how many entries were written to the feed, ''}; {-1, the host whose order covers this one}; {-2, ''} if the
--             other partitions have an order of this host that has to end there first
local l = read_lane(KEYS.lane, ARGV.host)
local s = l.state

-- sooner compares deliveries by when they are due, and then by age.
local function sooner(a, b) return due(a) < due(b) or due(a) == due(b) and a.id < b.id end

-- first_later returns the delivery that is due first, if none is due now.
local function first_later()
  local first
  for _, e in pairs(l.window) do
    if not has(e, TAKEN) and not has(e, WAITS_KEY) and (not first or sooner(e, first)) then first = e end
  end
  if first and due(first) > now and not heads_due(l, now) then return first end
end

local function give_order(letter)
  local before = s[letter] > 0 and order_of(letter, l.host, redis.call('HGET', l.h, letter) or '')
  local covers = tonumber(ARGV.covers)
  local packed, ends = new_order(before, tonumber(ARGV.lasts), covers, ARGV.reason, ARGV.by)
  redis.call('HSET', l.h, letter, packed)
  cover(letter, l.host, covers == 1 and packed or nil)
  s[letter], l.ordered, l.lapsed = ends > 0 and ends or 1, true, nil
  return not before or before.ends ~= ends or before.covers ~= covers or before.reason ~= ARGV.reason or before.by ~= ARGV.by
end

local function end_order(letter)
  local held = s[letter] > 0
  redis.call('HDEL', l.h, letter)
  cover(letter, l.host)
  s[letter], l.ordered = 0, true
  return held
end

local letters = {pause = 'p', resume = 'p', block = 'b', unblock = 'b'}
local letter, gives = letters[ARGV.action], ARGV.action == 'pause' or ARGV.action == 'block'
-- Each action returns whether it changed anything.
local actions = {
  pause = give_order, resume = end_order, block = give_order, unblock = end_order,
  seen = function()
    local waits = s.w
    hasten(l)
    return s.w < waits
  end,
  probe = function()
    local waits = s.w > now
    s.w = 0
    local e = band(s.f, PROBING) == 0 and first_later()
    if e then
      e.due = now
      change(l, e)
    end
    return waits or e
  end,
}

if letter and not gives and s[letter] == 0 then
  local other = orders_for(l, letter)[1]
  if other then return {-1, other.host} end
end
if not l.known and not gives then return {0, ''} end
if letter and clock[3] and ARGV.spread == '0' and not (gives and ARGV.covers == '1') then
  if redis.call('HEXISTS', COVERS, letter .. l.host) == 1 then return {-2, ''} end
end
l.by = ARGV.by
if actions[ARGV.action](letter) then feed_action(ARGV.said) end
if letter then apply_orders(l) end
end_throttle(s)
write(l)
signal()
return {newly_fed(), ''}
