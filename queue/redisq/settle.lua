#!lua flags=allow-oom
-- Writes back what came of deliveries taken under a lease.
--
-- KEYS[FIRST…FIRST+5] the lane
-- KEYS[FIRST+6]       its lease, which ends with the turn; see lockmgr/acquire.lua
-- KEYS[FIRST+7…]      a, b and r of each activity that the results are about
-- ARGV[2…8]           host, token, how long the lease lasts in ms, wait in ms (0 leaves it, negative ends it), how much
--                     of that the host asked for, whether the host recovered, whether the turn ends
-- ARGV[9…11]          the host's record, '' to leave it; its epoch; what it says (see lane.lua, f). A record of an
--                     earlier epoch than the stored one is dropped, and so is the wait
-- ARGV[12…]           the results: number of the activity (from 0), ordinal, verdict (0 delivered, 1 retry, 2 defer, 3
--                     dead), after in ms, whether the host failed, whether an attempt was spent, whether it waits for
--                     its key, reason, last attempt
-- RETURNS             {1, the host's state if it turned, whether Sweep has something to give up of the lane, hashes of
--                     the keys that deliveries wait for}, or {0} if a later token took the lane; then nothing was changed
local parked = {}
local l, token = read(FIRST, ARGV[2]), tonumber(ARGV[3])
local s = l.state
l.held = true
if not l.known or token ~= s.t then return {0} end

local function find(act, ordinal)
  for _, e in pairs(l.window) do
    if e.ordinal == ordinal and e.activity == act.id and has(e, TAKEN) then return e end
  end
end

-- keep puts a delivery back that stays pending.
local function keep(e, act, verdict, after, host_failed, wait_key)
  unpark(l, e)
  if after > 0 or verdict == 1 then e.due = now + after end
  if verdict == 1 then e.flags = host_failed and bor(e.flags, HOST_FAILED) or band(e.flags, bnot(HOST_FAILED)) end
  if wait_key then
    local key = field(act, 'k')
    park(l, e, key)
    parked[#parked + 1] = key
  end
  if ARGV[7] == '1' and has(e, HOST_FAILED) and not wait_key then e.due = now end -- also if it steps back now
  untake(l, e)
end

local function apply(i)
  local act, verdict = look_up(new_activity(FIRST + 7 + 3 * ARGV[i])), tonumber(ARGV[i + 2])
  local e = act.id and find(act, tonumber(ARGV[i + 1]))
  if not e then return end
  e.attempts = e.attempts + tonumber(ARGV[i + 5])
  if ARGV[i + 8] ~= '' then e.last = ARGV[i + 8] end
  if verdict == 0 then
    drop(l, e)
    delivered(act, e.ordinal)
  elseif verdict == 3 then
    drop(l, e)
    died(act, e, l.host, ARGV[i + 7])
  else
    keep(e, act, verdict, tonumber(ARGV[i + 3]), ARGV[i + 4] == '1', ARGV[i + 6] == '1')
  end
  act.touched = act.touched or verdict == 0 or verdict == 3
end

for i = 12, #ARGV, 9 do apply(i) end
for _, act in pairs(activities) do
  if act.touched then finish(act) end
end
local current, wait = ARGV[9] == '' or tonumber(ARGV[10]) >= s.g, tonumber(ARGV[5])
if ARGV[9] ~= '' and current then
  keep_record(l, ARGV[9])
  s.f = tonumber(ARGV[11])
  if band(s.f, PROBING) == 0 then s.y = 0 end
end
if wait ~= 0 and current then
  s.w = math.max(0, wait < 0 and 0 or now + wait)
  s.o = now + tonumber(ARGV[6])
end
if ARGV[7] == '1' then recover(l) end
s.x = now + tonumber(ARGV[4])
if ARGV[8] == '1' then
  hand_back(l)
  s.x = 0
  local lease = redis.pcall('GET', KEYS[FIRST + 6])
  if type(lease) == 'string' and string.match(lease, '^%d+') == ARGV[3] then redis.call('DEL', KEYS[FIRST + 6]) end
end
write(l)
signal()
return {1, l.turned or '', s.v, unpack(parked)}
