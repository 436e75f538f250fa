#!lua flags=no-writes
-- Looks at deliveries of an activity.
--
-- USES lane(band, has, created, due, read), backlog(backlog_of), activity(new_activity), search(search, wanted_of)
-- KEYS.activity×2 the activity's a and r
-- KEYS.lanes…     six keys for each lane
-- ARGV.id         the activity's ID
-- ARGV.lanes…     of each lane: host, how many deliveries, ordinal of each and hash of its inbox
-- RETURNS         for each delivery found {ordinal, attempts, when it is due in ms or 0 if that is not known, last
--                 attempt}
local act, answer = new_activity(KEYS.activity), {}
if redis.call('EXISTS', act.a) == 0 then return answer end

-- due_at tells when a delivery may be attempted. One behind another has no time.
local function due_at(l, e, where)
  if where == 'behind' or has(e, WAITS_KEY) then return 0 end
  if where ~= 'window' then
    local _, waiting = backlog_of(l, e.chain)
    if l.heads[e.chain] or waiting > 1 then return 0 end
  end
  if band(l.state.f, PROBING) > 0 then return math.max(l.state.w, created(e)) end
  return math.max(l.state.w, due(e))
end

local at, keys = ARGV.lanes, KEYS.lanes
while ARGV[at] do
  local host, wanted
  host, wanted, at = wanted_of(act, at)
  local l = read(keys, host)
  search(l, ARGV.id, wanted, function(e, where)
    answer[#answer + 1] = {e.ordinal, e.attempts, due_at(l, e, where), e.last}
  end)
  keys = keys + 6
end
return answer
