#!lua flags=no-writes
-- Looks at lanes.
--
-- KEYS[FIRST…] six keys for each lane
-- ARGV[2…]     the hosts
-- RETURNS      for each {record, epoch, state, pending, taken, when the oldest pending was accepted in ms or 0, until
--              when it waits in ms or 0}, false if it isn't known
local function oldest(l)
  local id
  for _, e in pairs(l.window) do
    if not id or e.id < id then id = e.id end
  end
  for p = 0, 2 do
    local first = l.state.k > 0 and redis.call('LINDEX', l.q[p], 0)
    if first then id = math.min(id or math.huge, struct.unpack('>I8', first)) end
  end
  return id and created({id = id}) or 0
end

local answer = {}
for i = 2, #ARGV do
  local l = read(FIRST + 6 * (i - 2), ARGV[i])
  local s = l.state
  answer[i - 1] = l.known and {l.record, s.g, state(s), s.n, taken(l), oldest(l), s.w > now and s.w or 0}
end
return answer
