#!lua flags=allow-oom
-- Makes dead letters of deliveries that choose.lua chose, as far as they may still go.
--
-- KEYS[FIRST…FIRST+5] the lane
-- KEYS[FIRST+6…]      a, b and r of each activity
-- ARGV[2]             the host
-- ARGV[3]             why
-- ARGV[4…]            of each delivery: number of its activity (from 0), where it was, its number, what was stored
--                     there
-- RETURNS             the names of the letters
local l, why, letters, touched = read(FIRST, ARGV[2]), ARGV[3], {}, {}
local s = l.state

local function may_go(e)
  if why == 'host_blocked' then return s.b > 0 end
  if has(e, TAKEN) then return false end
  if why == 'host_unavailable' then return band(s.f, UNAVAILABLE) > 0 and s.n > 1 end
  return LANE > 0 and s.n > LANE
end

-- found returns a delivery and where it is, for it may have moved up.
local function found(where, id, text)
  if l.window[id] then return l.window[id], 'window' end
  if where == 'window' then return end
  if where == 'behind' then return from_numbered(string.sub(text, 7)), where end -- an ordering key has six bytes
  return from_numbered(text), tonumber(where)
end

for i = 4, #ARGV, 4 do
  local e, where = found(ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3])
  if e and may_go(e) and take_out(l, e, where, ARGV[i + 3]) then
    local n = tonumber(ARGV[i])
    touched[n] = touched[n] or new_activity(FIRST + 6 + 3 * n)
    letters[#letters + 1] = died(touched[n], e, l.host, why)
  end
end
for _, act in pairs(touched) do finish(act) end
if l.known then write(l) end
if #letters == 0 then redis.call('ZADD', EXCESS, 'XX', now + RETRY, l.host) end
signal()
return letters
