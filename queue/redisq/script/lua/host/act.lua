#!lua flags=allow-oom
-- Does to a host what an operator or the app asks for, but for a reset.
--
-- USES lane(now, band, has, due, end_throttle, read, set, hasten), feed(newly_fed), place(heads_due, write, signal)
-- KEYS.lane×6 the lane
-- ARGV.host   the host
-- ARGV.action the action, see queue.HostAction
-- RETURNS     how many entries were written to the feed
local l = read(KEYS.lane, ARGV.host)
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

local actions = {
  pause = function() s.p = 1 end,
  resume = function() s.p = 0 end,
  block = function() s.b = 1 end,
  unblock = function() s.b = 0 end,
  seen = function() hasten(l) end,
  probe = function()
    s.w = 0
    local e = band(s.f, PROBING) == 0 and first_later()
    if e then
      e.due = now
      set(l, e)
    end
  end,
}

if not l.known and ARGV.action ~= 'pause' and ARGV.action ~= 'block' then return 0 end
actions[ARGV.action]()
end_throttle(s)
write(l)
signal()
return newly_fed()
