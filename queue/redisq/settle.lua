#!lua flags=allow-oom
-- Writes back what came of deliveries taken under leases: of each lane at most one settlement.
--
-- KEYS[FIRST…] of each settlement:
--   1…6   the lane
--   7     its lease, which ends with the turn; see lockmgr/acquire.lua
--   8…    a, b and r of each activity that the results are about
-- ARGV[2…] of each settlement:
--   1…2   how many activities and results it is about
--   3…9   host, token, how long the lease lasts in ms, wait in ms (0 leaves it, negative ends it), how much of that the
--         host asked for, whether the host recovered, whether the turn ends
--   10…12 the host's record, '' to leave it; its epoch; what it says (see lane.lua, f). A record of an earlier epoch than
--         the stored one is dropped, and so is the wait
--   13…   the results: number of the activity (from 0), ordinal, verdict (0 delivered, 1 retry, 2 defer, 3 dead), after in
--         ms, whether the host failed, whether an attempt was spent, whether it waits for its key, reason, last attempt
-- RETURNS of each settlement {1, the host's state if it turned, whether Sweep has something to give up of the lane, hashes
--         of the keys that deliveries wait for}, or {0} if a later token took the lane; then nothing of it was changed
--
-- All is read before anything is changed, and lanes are written last: a key that something else has overwritten ends the
-- script while nothing is lost, and each settlement can be sent by itself.
local settlements, answers, key, at = {}, {}, FIRST, 2

-- open reads what the settlement at ARGV[at] is about. It returns nothing if a later token took the lane.
local function open()
  local l, token = read(key, ARGV[at + 2]), ARGV[at + 3]
  if not l.known or tonumber(token) ~= l.state.t then return end
  if waits_behind(l) then redis.call('ZCARD', l.w) end
  local acts = {}
  for i = 0, ARGV[at] - 1 do acts[i] = look_up(new_activity(key + 7 + 3 * i)) end
  return {l = l, token = token, lease = KEYS[key + 6], at = at, acts = acts, parked = {}}
end

local function find(l, act, ordinal)
  for _, e in pairs(l.window) do
    if e.ordinal == ordinal and e.activity == act.id and has(e, TAKEN) then return e end
  end
end

-- keep puts a delivery back that stays pending.
local function keep(st, e, act, verdict, after, host_failed, wait_key)
  unpark(st.l, e)
  if after > 0 or verdict == 1 then e.due = now + after end
  if verdict == 1 then e.flags = host_failed and bor(e.flags, HOST_FAILED) or band(e.flags, bnot(HOST_FAILED)) end
  if wait_key then
    local key = field(act, 'k')
    park(st.l, e, key)
    st.parked[#st.parked + 1] = key
  end
  if st.recovered and has(e, HOST_FAILED) and not wait_key then e.due = now end -- also if it steps back now
  untake(st.l, e)
end

-- apply does what the result at ARGV[i] says.
local function apply(st, i)
  local l, act, verdict = st.l, st.acts[tonumber(ARGV[i])], tonumber(ARGV[i + 2])
  local e = act.id and find(l, act, tonumber(ARGV[i + 1]))
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
    keep(st, e, act, verdict, tonumber(ARGV[i + 3]), ARGV[i + 4] == '1', ARGV[i + 6] == '1')
  end
  act.touched = act.touched or verdict == 0 or verdict == 3
end

-- learn keeps what was learnt of the host, and for how long the lane waits. i is where the record stands in ARGV.
local function learn(l, i)
  local s, wait = l.state, tonumber(ARGV[i - 4])
  if ARGV[i] ~= '' and tonumber(ARGV[i + 1]) < s.g then return end
  if ARGV[i] ~= '' then
    keep_record(l, ARGV[i])
    s.f = tonumber(ARGV[i + 2])
    if band(s.f, PROBING) == 0 then s.y = 0 end
  end
  if wait ~= 0 then
    s.w = math.max(0, wait < 0 and 0 or now + wait)
    s.o = now + tonumber(ARGV[i - 3])
  end
end

-- end_turn puts back what was taken and not settled, and ends the lease.
local function end_turn(st)
  hand_back(st.l)
  st.l.state.x = 0
  local lease = redis.pcall('GET', st.lease)
  if type(lease) == 'string' and string.match(lease, '^%d+') == st.token then redis.call('DEL', st.lease) end
end

local function settle(st)
  local l, i = st.l, st.at
  l.held, st.recovered = true, ARGV[i + 7] == '1'
  for result = i + 12, i + 3 + 9 * ARGV[i + 1], 9 do apply(st, result) end
  learn(l, i + 9)
  if st.recovered then recover(l) end
  l.state.x = now + tonumber(ARGV[i + 4])
  if ARGV[i + 8] == '1' then end_turn(st) end
end

while at <= #ARGV do
  settlements[#settlements + 1] = open() or false
  key, at = key + 7 + 3 * ARGV[at], at + 12 + 9 * ARGV[at + 1]
end
for _, st in ipairs(settlements) do
  if st then settle(st) end
end
for _, act in pairs(activities) do
  if act.touched then finish(act) end
end
for i, st in ipairs(settlements) do
  if st then write(st.l) end
  answers[i] = st and {1, st.l.turned or '', st.l.state.v, unpack(st.parked)} or {0}
end
signal()
return answers
