#!lua flags=no-writes
-- Looks at lanes.
--
-- USES lane(now, state, end_throttle, read, taken, oldest_pending)
-- KEYS.lanes… six keys for each lane
-- ARGV.hosts… the hosts
-- RETURNS     for each {record, epoch, state, pending, taken, when the oldest pending was accepted in ms or 0, until
--             when it waits in ms or 0, when its state last changed in ms or 0}, false if it isn't known
local function oldest(l)
  local ids = {}
  for _, e in pairs(l.window) do ids[#ids + 1] = e.id end
  return oldest_pending(l, ids)
end

local answer = {}
for i = ARGV.hosts, #ARGV do
  local l = read(KEYS.lanes + 6 * (i - ARGV.hosts), ARGV[i])
  local s = l.state
  end_throttle(s)
  answer[#answer + 1] = l.known and {l.record, s.g, state(s), s.n, taken(l), oldest(l), s.w > now and s.w or 0, s.c} or false
end
return answer
