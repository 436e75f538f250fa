#!lua
-- Makes dead letters pending again.
--
-- USES lane(now, micros, band, has, NO_BODY, number, with_number, is_blocked, put, read_lane, change, behind_of, behind, step_back)
-- USES backlog(backlog_of, join_backlog, find_tail), bodies(about_object), tombstones(is_superseded)
-- USES place(at_end, total, write, signal)
-- USES activity(new_activity, field, look_up, add_count, counts, letter_name, letter_of, unfile), search(own_chain)
-- KEYS.lanes… six keys for each lane, then a and r of each activity
-- ARGV.ttl    how long they last, in ms
-- ARGV.lanes  how many lanes
-- ARGV.hosts… their hosts; then of each letter: number of its lane and of its activity (from 0), its ordinal, hash of its
--             inbox, and the number of the report by which the activity's home knows of this (0: it need not)
-- RETURNS     {how many of them are pending now, and how many are superseded}, {-1} if there was another report meanwhile
local ttl, lanes_count, lanes, revived, superseded = tonumber(ARGV.ttl), tonumber(ARGV.lanes), {}, {}, 0

local function lane(n)
  if not lanes[n] then lanes[n] = read_lane(KEYS.lanes + 6 * n, ARGV[ARGV.hosts + n]) end
  return lanes[n]
end

-- reopen makes an activity pending again.
local function reopen(act, id)
  local last, was_pending = now + ttl, counts(act) > 0
  if was_pending then
    last = math.max(last, tonumber(field(act, 'v') or 0))
  else
    redis.call('HDEL', act.a, 'f')
    redis.call('ZADD', PENDING, act.created, id)
  end
  redis.call('HSET', act.a, 'v', last)
  redis.call('ZADD', EXPIRES, 'LT', last, id)
end

-- is_needless reports whether a letter's object was deleted after it was accepted.
local function is_needless(act, letter)
  local role, object = about_object(look_up(act).body or NO_BODY)
  if not object or role == DELETES then return false end
  return is_superseded(object, letter[7] and tonumber(letter[7]) or (act.created - EPOCH * 1000) * 1000)
end

-- number_of is the number that a letter had as a delivery: none, if it was never in this lane.
local function number_of(l, letter)
  if letter[7] then return tonumber(letter[7]) end
  l.state.i = math.max(l.state.i + 1, micros)
  return l.state.i
end

-- revive makes a delivery of a letter again.
local function revive(l, act, ordinal, inbox)
  if is_blocked(l.state) or band(l.state.f, UNAVAILABLE) > 0 then return end
  local id, body = look_up(act).id, act.body or NO_BODY
  local letter = id and letter_of(letter_name(id, ordinal))
  if not letter then return end
  if is_needless(act, letter) then
    superseded = superseded + 1
    return
  end
  unfile(act, letter_name(id, ordinal))
  reopen(act, id)
  add_count(act, 'x', -1)
  total('pending', 1)
  local listed = redis.call('LINDEX', act.r, ordinal) or ''
  redis.call('LSET', act.r, ordinal, string.sub(listed, 1, 1) == '!' and string.sub(listed, 2) or l.host .. letter[2])
  return {
    id = number_of(l, letter), due = now, flags = REVIVED, attempts = 0, priority = tonumber(field(act, 'q')), activity = id,
    ordinal = ordinal, chain = own_chain(act, inbox), body = body, rest = letter[2], headers = letter[3], last = letter.last, key = '',
  }
end

-- insert puts a delivery into the backlog, where its number says: nearly always in front.
local function insert(l, e)
  local backlog = l.q[join_backlog(l, e)]
  at_end[#at_end + 1] = function() find_tail(l, e.chain) end
  local function number_at(i) return struct.unpack('>I8', redis.call('LINDEX', backlog, i)) end
  local low, high = 0, redis.call('LLEN', backlog)
  if high == 0 or e.id > number_at(-1) then return redis.call('RPUSH', backlog, with_number(e)) end
  if e.id < number_at(0) then return redis.call('LPUSH', backlog, with_number(e)) end
  while low < high do
    local half = math.floor((low + high) / 2)
    if number_at(half) < e.id then low = half + 1 else high = half end
  end
  redis.call('LINSERT', backlog, 'BEFORE', redis.call('LINDEX', backlog, low), with_number(e))
end

-- in_backlog reports whether a delivery belongs into the backlog: others of its chain are there, and nothing that goes before
-- those is newer.
local function in_backlog(l, e)
  if not backlog_of(l, e.chain) then return false end
  local head = l.heads[e.chain]
  return not head or head.id < e.id and #behind_of(l, e.chain, 0, 1, number(e.id)) == 0
end

-- admit puts a delivery where it would be if it had not died.
local function admit(l, e)
  l.state.n, l.changed = l.state.n + 1, true
  local head = l.heads[e.chain]
  if in_backlog(l, e) or not head and l.size >= WINDOW then return insert(l, e) end
  if head then
    if head.id < e.id or has(head, TAKEN) then return behind(l, e) end
    step_back(l, head)
  end
  put(l, e)
  change(l, e)
end

local function activity_at(i) return new_activity(KEYS.lanes + 6 * lanes_count + 2 * ARGV[i + 1]) end

for i = ARGV.hosts + lanes_count, #ARGV, 5 do
  if math.abs(look_up(activity_at(i)).report or 0) ~= tonumber(ARGV[i + 4]) then return {-1} end
end
for i = ARGV.hosts + lanes_count, #ARGV, 5 do
  local n, _, ordinal, inbox = unpack(ARGV, i, i + 3)
  local l, act = lane(tonumber(n)), activity_at(i)
  local e = revive(l, act, tonumber(ordinal), inbox)
  if e then revived[#revived + 1] = {l = l, e = e} end
end
table.sort(revived, function(a, b) return a.e.id > b.e.id end)
for _, r in ipairs(revived) do admit(r.l, r.e) end
for _, l in pairs(lanes) do
  if l.changed then write(l) end
end
signal()
return {#revived, superseded}
