#!lua
-- Stores submissions of the plainest kind, as most are: to one recipient, without idempotency key and headers, and without effect
-- on what was stored before. It leaves the same as enqueue.lua, in less time. What meets anything unusual it leaves to that, before it
-- has changed anything for it.
--
-- USES lane(LANE, clock, now, numbers, call_all, band, number, covering, unpack_state, pack_state), backlog(join_backlog)
-- USES place(total, rate, signal), marks(mark_keys, mark_fresh), activity(signs), intake(window_of, has_room, arrive)
-- KEYS.submissions… of each submission:
--   1…2   the activity's a and r
--   3…    those of its marks, see marks.lua
--   …     six keys of the lane
-- ARGV.submissions… of each submission: ID, description, ordering key and key ID (hashes), priority, TTL in ms, marks; name of the body
--                   if no other has it, what BODY_INFO is to hold, body; host, what the list of recipients is to hold, chain, and the
--                   delivery, packed
-- RETURNS           of each submission 1 if it is stored, 0 if enqueue.lua has to see to it, or an error
local MARKED, NAMED, FIELDS = 6, 7, 14 -- where marks and name are, and how many arguments a submission has
local answers, key, done, posted = {}, KEYS.submissions, 0, 0
local ending, aging, texts, abouts, signed = {}, {}, {}, {}, {} -- what is written at the end, for all
local names, now_text, ends = {}, string.format('%.0f', now), {} -- ends has by a TTL when it is over
for at = ARGV.submissions, #ARGV, FIELDS do names[#names + 1] = ARGV[at + NAMED] end
redis.call('HEXISTS', BODIES, '') -- it fails now if it is no hash
local known, new = redis.call('HMGET', BODY_INFO, unpack(names)), {}
local is_staged = redis.call('EXISTS', ORDERED) == 1 -- whether anything is
local began -- whether anything was changed for the submission at hand

-- finds_room reports whether a delivery goes into the window of a lane or, if not, into the backlog; nil if one of its chain may be
-- in the window.
local function finds_room(l, chain)
  if l.state.k > 0 or l.state.n == 0 then return l.state.n == 0 end
  window_of(l)
  if not string.find(l.window_text, chain, 1, true) then return has_room(l) end
end

-- post stores the submission whose arguments begin at ARGV[at], and whose keys at KEYS[key] and, of its lane, at KEYS[lane], and
-- reports whether it could.
local function post(at, key, lane, is_known)
  local id, description, ordering, key_id, priority, ttl, marks, name, info, body, host, listed, chain, text = unpack(ARGV, at, at + FIELDS - 1)
  local h, a = KEYS[lane], KEYS[key]
  local packed = redis.call('HGET', h, 's')
  if is_known or new[name] or not packed or redis.call('EXISTS', a) == 1 then return false end
  local s, l = unpack_state(packed), {host = host, h = h, pause_ends = 0}
  if s.p + s.b + s.h > 0 or band(s.f, UNAVAILABLE + THROTTLED) > 0 then return false end
  l.state = s
  local e = {id = math.max(s.i + 1, numbers.first), chain = chain, priority = tonumber(priority), body = name}
  local room = finds_room(l, chain)
  if room == nil or LANE > 0 and s.n >= LANE or clock[3] and #covering(host) > 0 then return false end
  if is_staged and redis.call('HEXISTS', ORDERED, ordering) == 1 then return false end

  began = true
  ends[ttl] = ends[ttl] or string.format('%.0f', now + ttl)
  done, new[name] = done + 1, true
  ending[2 * done - 1], ending[2 * done] = ends[ttl], id
  aging[2 * done - 1], aging[2 * done] = now_text, id
  texts[2 * done - 1], texts[2 * done] = name, body
  abouts[2 * done - 1], abouts[2 * done] = name, info
  redis.call('HSET', a, 'm', description, 'i', id, 'o', ordering, 'k', key_id, 'q', priority, 'e', ends[ttl], 't', now_text, 'b', name,
    'p', '0', 'n', '1')
  redis.call('RPUSH', KEYS[key + 1], listed)
  local to = e.priority
  if not room then
    l.c = KEYS[lane + 1]
    to = join_backlog(l, e)
    redis.call('RPUSH', KEYS[lane + 3 + to], number(e.id) .. text)
  end
  arrive(l, to)
  s.n, s.i = s.n + 1, e.id
  local changed = pack_state(s)
  if room then redis.call('HSET', h, 's', changed, string.format('%.0f', e.id), text) else redis.call('HSET', h, 's', changed) end
  local marked = mark_fresh(id, marks, key + 2)
  if marked ~= now then redis.call('HSET', a, 'u', marked) end
  signed[key_id], posted = (signed[key_id] or 0) + 1, posted + 1
  return true
end

for i = 1, #names do
  local at = ARGV.submissions + (i - 1) * FIELDS
  local lane = key + 2 + mark_keys(ARGV[at + MARKED])
  began = false
  local ok, answer = pcall(post, at, key, lane, known[i])
  answers[i] = ok and answer and 1 or not ok and began and {err = answer.err or answer} or 0
  key = lane + 6
end
call_all('HSET', BODIES, texts)
call_all('HSET', BODY_INFO, abouts)
call_all('ZADD', EXPIRES, ending)
call_all('ZADD', PENDING, aging)
for name, n in pairs(signed) do signs(name, n) end
total('activities', posted)
total('pending', posted)
rate('accepted', posted)
signal()
return answers
