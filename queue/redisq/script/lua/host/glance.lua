#!lua flags=no-writes
-- Looks at lanes, at what it takes to choose among them.
--
-- USES lane(state, end_throttle, is_number, read_state, oldest_pending)
-- KEYS.lanes…    six keys for each lane or, if the oldest delivery is of no interest, the first of them
-- ARGV.by_oldest whether it is of interest when the oldest delivery pending was accepted
-- ARGV.hosts…    the hosts
-- RETURNS        for each {state, when that last changed in ms, pending, when the oldest pending was accepted in ms}, false if
--                it isn't known; times are 0 if there is none, or it is of no interest
local answer, each = {}, ARGV.by_oldest == '1' and 6 or 1

-- numbers_of returns the numbers of the deliveries in the window of a lane.
local function numbers_of(l)
  local ids = {}
  for _, name in ipairs(redis.call('HKEYS', l.h)) do
    if is_number(name) then ids[#ids + 1] = tonumber(name) end
  end
  return ids
end

for i = ARGV.hosts, #ARGV do
  local l = read_state(KEYS.lanes + each * (i - ARGV.hosts), ARGV[i])
  local s = l.state
  end_throttle(s)
  local oldest = each > 1 and s.n > 0 and oldest_pending(l, numbers_of(l)) or 0
  answer[#answer + 1] = l.known and {state(s), s.c, s.n, oldest} or false
end
return answer
