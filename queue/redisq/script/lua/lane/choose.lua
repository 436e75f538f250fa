#!lua flags=no-writes
-- Chooses what is to be given up of a lane, the oldest first.
--
-- USES lane(LANE, band, has, from_numbered, is_blocked, read_lane, behind_of, last_behind), place(exceeds)
-- KEYS.lane×6 the lane
-- ARGV.host   the host
-- ARGV.most   how many deliveries at most
-- RETURNS     {why, of each where it is (see take_out), its number, activity, and what is stored there}
local l, most = read_lane(KEYS.lane, ARGV.host), tonumber(ARGV.most)
local s = l.state
local why = is_blocked(s) and 'host_blocked' or band(s.f, UNAVAILABLE) > 0 and 'host_unavailable' or 'lane_full'
if not exceeds(s) then return {why} end

-- Each place is in the order accepted, and who waits behind another is behind one of the window: so the oldest of the
-- lane are among the oldest of each place, and the newest among the newest.
local all, newest, newest_to_go = {}, 0, 0

local function see(e)
  newest = math.max(newest, e.id)
  if not has(e, WAITS_KEY) then newest_to_go = math.max(newest_to_go, e.id) end
end

local function add(e, where, text)
  see(e)
  all[#all + 1] = {e = e, where = where, text = text}
end

local someone_waits = redis.call('EXISTS', l.w) == 1
for _, e in pairs(l.window) do
  add(e, 'window', '')
  if someone_waits then
    for _, text in ipairs(behind_of(l, e.chain, 0, most)) do add(from_numbered(string.sub(text, #e.chain + 1)), 'behind', text) end
    local last = last_behind(l, e.chain)
    if last then see(last) end
  end
end
for p = 0, 2 do
  for _, text in ipairs(redis.call('LRANGE', l.q[p], 0, most - 1)) do add(from_numbered(text), p, text) end
  local last = redis.call('LINDEX', l.q[p], -1)
  if last then see(from_numbered(last)) end
end

local spared = newest_to_go > 0 and newest_to_go or newest
local function may_go(e)
  if why == 'host_blocked' then return true end
  if has(e, TAKEN) then return false end
  if why == 'host_unavailable' then return e.id ~= spared end
  return e.priority > 0
end

local chosen = {}
for _, f in ipairs(all) do
  if may_go(f.e) then chosen[#chosen + 1] = f end
end
table.sort(chosen, function(a, b)
  if why == 'lane_full' and a.e.priority ~= b.e.priority then return a.e.priority > b.e.priority end
  return a.e.id < b.e.id
end)
if why == 'lane_full' then most = math.min(most, s.n - LANE) end
local answer = {why}
for i = 1, math.min(most, #chosen) do
  local f = chosen[i]
  for _, part in ipairs({tostring(f.where), string.format('%.0f', f.e.id), f.e.activity, f.text}) do answer[#answer + 1] = part end
end
return answer
