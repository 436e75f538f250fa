#!lua flags=no-writes
-- Looks at deliveries of an activity.
--
-- USES lane(read_lane), activity(new_activity), search(due_at, waits_for, search, wanted_of)
-- KEYS.activity×2 the activity's a and r
-- KEYS.lanes…     six keys for each lane
-- ARGV.id         the activity's ID
-- ARGV.lanes…     of each lane: host, how many deliveries, ordinal of each and hash of its inbox
-- RETURNS         for each delivery found {ordinal, attempts, when it is due in ms or 0 if that is not known, what
--                 it waits for, last attempt}
local act, answer = new_activity(KEYS.activity), {}
if redis.call('EXISTS', act.a) == 0 then return answer end

local at, keys = ARGV.lanes, KEYS.lanes
while ARGV[at] do
  local host, wanted
  host, wanted, at = wanted_of(act, at)
  local l = read_lane(keys, host)
  search(l, ARGV.id, wanted, function(e, where)
    answer[#answer + 1] = {e.ordinal, e.attempts, due_at(l, e, where), waits_for(l, e, where), e.last}
  end)
  keys = keys + 6
end
return answer
