#!lua flags=allow-oom
-- Makes dead letters of deliveries that choose.lua chose, as far as they may still go, and sees whether the host has waited
-- as it asked.
--
-- USES lane(LANE, now, band, has, from_numbered, is_blocked, end_throttle, read_lane), feed(newly_fed), backlog(take_out)
-- USES place(changes_at, write, signal), activity(new_activity, newly_owed, finish, died)
-- KEYS.lane×6      the lane
-- KEYS.activities… a and r of each activity
-- ARGV.host        the host
-- ARGV.why         why
-- ARGV.deliveries… of each delivery: number of its activity (from 0), where it was, its number, what was stored
--                  there
-- RETURNS          {how many died, how many entries were written to the feed, reports: see newly_owed}
local l, why, buried, touched = read_lane(KEYS.lane, ARGV.host), ARGV.why, 0, {}
local s = l.state

local function may_go(e)
  if why == 'host_blocked' then return is_blocked(s) end
  if has(e, TAKEN) then return false end
  if why == 'host_unavailable' then return band(s.f, UNAVAILABLE) > 0 and s.n > 1 end
  return LANE > 0 and s.n > LANE
end

-- found returns a delivery and where it is, for it may have moved up.
local function found(where, id, text)
  if l.window[id] then return l.window[id], 'window' end
  if where == 'window' then return end
  if where == 'behind' then return from_numbered(string.sub(text, 7)), where end -- a chain has six bytes
  return from_numbered(text), tonumber(where)
end

for i = ARGV.deliveries, #ARGV, 4 do
  local n, place, id, text = unpack(ARGV, i, i + 3)
  local e, where = found(place, tonumber(id), text)
  if e and may_go(e) and take_out(l, e, where, text) then
    touched[n] = touched[n] or new_activity(KEYS.activities + 2 * n)
    died(touched[n], e, l.host, why)
    buried = buried + 1
  end
end
for _, act in pairs(touched) do finish(act) end
end_throttle(s)
if l.known then write(l) end
if buried == 0 then redis.call('ZADD', EXCESS, 'XX', s.v == 2 and changes_at(l) or now + RETRY, l.host) end
signal()
return {buried, newly_fed(), newly_owed()}
