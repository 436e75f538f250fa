#!lua flags=allow-oom
-- Takes deliveries from leased lanes, first or after it has written back what came of others: of each lane at most one
-- settlement.
--
-- USES lane(now, wake, call_all, band, bor, bnot, has, end_throttle, read_lane, keep_record, unpark, park, recover, waits_behind, drop, untake, hand_back)
-- USES feed(newly_fed), place(total, write, signal)
-- USES activity(activities, new_activity, field, look_up, newly_owed, finish, delivered, keep_attempt, died)
-- USES give(may_give, give, has_more)
-- KEYS.settlements… of each settlement: the lane's six keys; its lease, which ends with the turn (see lockmgr/acquire.lua);
--                   a and r of each activity that the results are about
-- ARGV.settlements… of each settlement what the names below stand for, and its results. The wait is in ms: 0 leaves it, a
--                   negative one ends it; ASKED is how much of it the host asked for. RELEASE is whether the turn ends
--                   unless there are deliveries to give, BEGINS whether one begins: a later token takes the lane. A RECORD
--                   of an earlier epoch than the stored one is dropped, and so is the wait; '' leaves it. A VERDICT is
--                   0 delivered, 1 retry, 2 defer or 3 dead, an ACTIVITY a number from 0
-- RETURNS of each settlement {how many entries were written to the feed, whether Sweep has something to give up of the lane,
--         deliveries and what is superseded (see give.lua), the host's record, its epoch, whether the lane has more to give,
--         now (all four only where a turn begins), hashes of the keys that deliveries wait for, reports to the homes of
--         activities that have ended in this partition (see standing), in how many ms a lane is due that was not known to be,
--         else -1}, or false if a later token took the lane; then nothing of it was changed
--
-- All is read before anything is changed, and lanes are written last: a key that something else has overwritten ends the
-- script while nothing is lost, and each settlement can be sent by itself.
local ACTIVITIES, RESULTS, HOST, TOKEN, LASTS, WAIT, ASKED, RECOVERED, RELEASE = 0, 1, 2, 3, 4, 5, 6, 7, 8
local RECORD, RECORD_EPOCH, SAYS, MOST, BEGINS, SETTLEMENT = 9, 10, 11, 12, 13, 14
local ACTIVITY, ORDINAL, VERDICT, AFTER, HAS_FAILED, SPENT, WAIT_KEY, REASON, LAST, RESULT = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local LEASE, ABOUT = 6, 7 -- where the keys of a settlement have its lease and its activities
local settlements, answers, offered, key, at = {}, {}, {}, KEYS.settlements, ARGV.settlements

-- open reads what the settlement at ARGV[at] is about. It returns nothing if a later token took the lane.
local function open()
  local l, token, begins = read_lane(key, ARGV[at + HOST]), tonumber(ARGV[at + TOKEN]), ARGV[at + BEGINS] == '1'
  if not l.known or token < l.state.t or token > l.state.t and not begins then return end
  if waits_behind(l) then redis.call('ZCARD', l.w) end
  if begins or ARGV[at + MOST] ~= '0' then may_give(l) end
  local acts = {}
  for i = 0, ARGV[at + ACTIVITIES] - 1 do acts[i] = look_up(new_activity(key + ABOUT + 2 * i)) end
  return {l = l, begins = begins, lease = KEYS[key + LEASE], at = at, acts = acts, parked = {}, given = {}, superseded = {}}
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

-- drop_damaged drops what cannot be told to be of an activity, where that is what a result says.
local function drop_damaged(l, i, key)
  if ARGV[i + REASON] ~= 'damaged' then return end
  local id = string.gsub(string.gsub(string.sub(key, -36), '-', ''), '%x%x', function(byte) return string.char(tonumber(byte, 16)) end)
  local e = find(l, {id = id}, tonumber(ARGV[i + ORDINAL]))
  if not e then return end
  drop(l, e)
  total('pending', -1)
end

-- apply does what the result at ARGV[i] says.
local function apply(st, i)
  local l, act, verdict = st.l, st.acts[tonumber(ARGV[i + ACTIVITY])], tonumber(ARGV[i + VERDICT])
  if not act.id then return drop_damaged(l, i, act.a) end
  local e = find(l, act, tonumber(ARGV[i + ORDINAL]))
  if not e then return end
  e.attempts = e.attempts + tonumber(ARGV[i + SPENT])
  if ARGV[i + LAST] ~= '' then
    if verdict ~= 0 then keep_attempt(act, e, ARGV[i + LAST]) end
    e.last = ARGV[i + LAST]
  end
  if verdict == 0 then
    drop(l, e)
    delivered(act, e, l.host)
  elseif verdict == 3 then
    drop(l, e)
    died(act, e, l.host, ARGV[i + REASON])
  else
    keep(st, e, act, verdict, tonumber(ARGV[i + AFTER]), ARGV[i + HAS_FAILED] == '1', ARGV[i + WAIT_KEY] == '1')
  end
  act.touched = act.touched or verdict == 0 or verdict == 3
end

-- learn keeps what was learnt of the host, and for how long the lane waits.
local function learn(l, at)
  local s, wait, record = l.state, tonumber(ARGV[at + WAIT]), ARGV[at + RECORD]
  if record ~= '' then
    if tonumber(ARGV[at + RECORD_EPOCH]) < s.g then return end
    keep_record(l, record)
    s.f = tonumber(ARGV[at + SAYS])
    if band(s.f, PROBING) == 0 then s.y = 0 end
  end
  if wait ~= 0 then
    s.w = math.max(0, wait < 0 and 0 or now + wait)
    s.o = now + tonumber(ARGV[at + ASKED])
  end
end

-- begin_turn takes the lane over, and puts back what a holder before took and did not settle.
local function begin_turn(l, token)
  if token > l.state.t then
    hand_back(l)
    l.state.t = token
  end
  l.found = l.state.z ~= IDLE and l.state.d == 0 and 0 -- it was found, so it was due
  offered[#offered + 1] = l.host
end

-- end_turn puts back what was taken and not settled, and ends the lease.
local function end_turn(st)
  hand_back(st.l)
  st.l.state.x = 0
  local lease = redis.pcall('GET', st.lease)
  if type(lease) == 'string' and string.match(lease, '^%d+') == ARGV[st.at + TOKEN] then redis.call('DEL', st.lease) end
end

local function settle(st)
  local l, at = st.l, st.at
  local results = at + SETTLEMENT
  l.held, st.recovered = true, ARGV[at + RECOVERED] == '1'
  if st.begins then begin_turn(l, tonumber(ARGV[at + TOKEN])) end
  for i = results, results + RESULT * (ARGV[at + RESULTS] - 1), RESULT do apply(st, i) end
  learn(l, at)
  end_throttle(l.state)
  if st.recovered then recover(l) end
  l.state.x = now + tonumber(ARGV[at + LASTS])
  if l.length then st.given, st.superseded, st.ready = give(l, tonumber(ARGV[at + MOST])) end
  if ARGV[at + RELEASE] == '1' and #st.given == 0 then end_turn(st) end
end

-- answer writes a lane, and returns what is to be said of it.
local function answer(st)
  local l, record, epoch, left, at_time = st.l, '', 0, 0, 0
  if st.begins then record, epoch, left, at_time = l.record, l.state.g, has_more(l, st.ready), now end
  write(l)
  return {newly_fed(), l.state.v == 1 and 1 or 0, st.given, st.superseded, record, epoch, left, at_time, st.parked, newly_owed()}
end

while at <= #ARGV do
  settlements[#settlements + 1] = open() or false
  key, at = key + ABOUT + 2 * ARGV[at + ACTIVITIES], at + SETTLEMENT + RESULT * ARGV[at + RESULTS]
end
for _, st in ipairs(settlements) do
  if st then settle(st) end
end
for _, act in pairs(activities) do
  if act.touched then finish(act) end
end
for i, st in ipairs(settlements) do
  answers[i] = st and answer(st)
end
call_all('ZREM', OFFERED, offered)
signal()
for _, a in ipairs(answers) do
  if a then a[#a + 1] = wake or -1 end
end
return answers
