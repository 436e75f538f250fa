#!lua flags=allow-oom
-- Does to a host what an operator or the app asks for, but for a reset.
--
-- KEYS[FIRST…] the lane
-- ARGV[2]      the host
-- ARGV[3]      the action, see queue.HostAction
-- RETURNS      the host's state if it turned, else ''
local l = read(FIRST, ARGV[2])
local s = l.state

-- first_later returns the delivery that is due first, if none is due now.
local function first_later()
  local first
  for _, e in pairs(l.window) do
    if not has(e, TAKEN) and not has(e, WAITS_KEY) and (not first or due(e) < due(first)) then first = e end
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

if not l.known and ARGV[3] ~= 'pause' and ARGV[3] ~= 'block' then return '' end
actions[ARGV[3]]()
write(l)
signal()
return l.turned or ''
