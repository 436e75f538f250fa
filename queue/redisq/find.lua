#!lua flags=no-writes
-- Looks at deliveries of an activity.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3…]      six keys for each lane
-- ARGV[2]             the activity's ID
-- ARGV[3…]            of each lane: host, how many deliveries, their ordinals
-- RETURNS             for each delivery found {ordinal, attempts, when it is due in ms or 0 if that is not known, last
--                     attempt}
local act, answer = new_activity(FIRST), {}
local ordering = field(act, 'o') or ''

-- due_at tells when a delivery may be attempted. What is behind another has no time.
local function due_at(l, e, where)
  if where == 'behind' or has(e, WAITS_KEY) then return 0 end
  if where ~= 'window' then
    if l.heads[e.ordering] or not string.find(redis.call('HGET', l.c, ordering), ':1$') then return 0 end
  end
  if band(l.state.f, PROBING) > 0 then return math.max(l.state.w, created(e)) end
  return math.max(l.state.w, due(e))
end

local at, keys = 3, FIRST + 3
while ARGV[at] do
  local host, wanted
  host, wanted, at = wanted_of(at)
  local l = read(keys, host)
  search(l, ARGV[2], ordering, wanted, function(e, where)
    answer[#answer + 1] = {e.ordinal, e.attempts, due_at(l, e, where), e.last}
  end)
  keys = keys + 6
end
return answer
