#!lua
-- Makes dead letters pending again.
--
-- KEYS[FIRST…] six keys for each lane, then a, b and r of each activity
-- ARGV[2]      how long they last, in ms
-- ARGV[3]      how many lanes
-- ARGV[4…]     their hosts; then of each letter: number of its lane and of its activity (from 0), its ordinal
-- RETURNS      how many of them are pending now
local ttl, lanes_count, lanes, revived = tonumber(ARGV[2]), tonumber(ARGV[3]), {}, {}

local function lane(n)
  if not lanes[n] then lanes[n] = read(FIRST + 6 * n, ARGV[4 + n]) end
  return lanes[n]
end

-- reopen makes an activity one of which something pends.
local function reopen(act, id)
  local last, was_pending = now + ttl, counts(act) > 0
  if was_pending then
    last = math.max(last, tonumber(field(act, 'v') or 0))
  else
    local about = redis.call('HMGET', act.a, 't', 'u')
    redis.call('HDEL', act.a, 'f')
    redis.call('ZADD', PENDING, about[1], id)
    redis.call('HSET', URIS, about[2], (redis.call('HGET', URIS, about[2]) or '') .. id)
  end
  redis.call('HSET', act.a, 'v', last)
  redis.call('ZADD', EXPIRES, 'LT', last, id)
end

-- number_of is the number that a letter had as a delivery.
local function number_of(l, letter)
  if letter[7] then return tonumber(letter[7]) end
  l.state.i = math.max(l.state.i + 1, micros)
  return l.state.i
end

-- revive makes a delivery of a letter again.
local function revive(l, act, ordinal)
  if l.state.b > 0 or band(l.state.f, UNAVAILABLE) > 0 then return end
  local about = redis.call('HMGET', act.a, 'i', 'o', 'q', 'z')
  local letter = about[1] and unfile(act, letter_name(about[1], ordinal))
  if not letter then return end
  reopen(act, about[1])
  count(act, 'x', -1)
  total('pending', 1)
  redis.call('LSET', act.r, ordinal, l.host .. letter[2])
  return {
    id = number_of(l, letter), due = now, flags = bor(REVIVED, about[4] and MAKES or 0), attempts = 0,
    priority = tonumber(about[3]), activity = about[1], ordinal = ordinal, ordering = about[2], rest = letter[2],
    headers = letter[3], last = letter.last, key = '',
  }
end

-- insert puts a delivery into the backlog, where its number says: nearly always in front.
local function insert(l, e)
  local list = l.q[join_backlog(l, e)]
  local function number_at(i) return struct.unpack('>I8', redis.call('LINDEX', list, i)) end
  local low, high = 0, redis.call('LLEN', list)
  if high == 0 or e.id > number_at(-1) then return redis.call('RPUSH', list, with_number(e)) end
  if e.id < number_at(0) then return redis.call('LPUSH', list, with_number(e)) end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if number_at(middle) < e.id then low = middle + 1 else high = middle end
  end
  redis.call('LINSERT', list, 'BEFORE', redis.call('LINDEX', list, low), with_number(e))
end

-- in_backlog tells whether a delivery belongs into the backlog: others of its ordering key are there, and nothing that
-- goes before those is newer.
local function in_backlog(l, e)
  if l.state.k == 0 or redis.call('HEXISTS', l.c, e.ordering) == 0 then return false end
  local head = l.heads[e.ordering]
  return not head or head.id < e.id and #behind_of(l, e.ordering, 0, 1, number(e.id)) == 0
end

-- admit puts a delivery where it would be if it had not died.
local function admit(l, e)
  l.state.n, l.changed = l.state.n + 1, true
  local head = l.heads[e.ordering]
  if in_backlog(l, e) or not head and l.size >= WINDOW then return insert(l, e) end
  if head then
    if head.id < e.id or has(head, TAKEN) then return behind(l, e) end
    step_back(l, head)
  end
  put(l, e)
  set(l, e)
end

for i = 4 + lanes_count, #ARGV, 3 do
  local l, act = lane(tonumber(ARGV[i])), new_activity(FIRST + 6 * lanes_count + 3 * tonumber(ARGV[i + 1]))
  local e = revive(l, act, tonumber(ARGV[i + 2]))
  if e then revived[#revived + 1] = {l = l, e = e} end
end
table.sort(revived, function(a, b) return a.e.id > b.e.id end)
for _, r in ipairs(revived) do admit(r.l, r.e) end
for _, l in pairs(lanes) do
  if l.changed then write(l) end
end
signal()
return #revived
