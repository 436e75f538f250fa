-- What the scripts that touch activities share. It stands after lane.lua.
--
-- An activity is kept, in each partition it goes to, in three keys:
--   a  HASH: m description, i its ID, u hash of its URI, o of its ordering key, k of its key ID, q priority,
--      e when it expires, t when it was accepted, n d x c counts (all, delivered, dead, cancelled), l dead letters, f when it was finished,
--      z whether it makes what its ordering key names, v when those revived of dead letters expire, p partitions (only in
--      its home partition), s claim (while it is not yet committed), j when it was finished in the store that it was
--      moved from (while it is staged)
--   b  STRING: the body, while anything pends or is a dead letter
--   r  LIST, as long as the body: where each delivery goes, "HOST/PATH" or "HOST\nINBOX"; '' once it is done, with a
--      "!" before it once it is a dead letter. What is staged is not in it yet
-- A dead letter is named by its activity and ordinal and kept as {host, path, headers, reason, attempts, when it died, its
-- number} in JSON, a line break, and its last attempt. It is filed twice, as "hHOST\0" or "rREASON\0" with when it died, in eight bytes,
-- and its name.
local COUNTS, activities = {'n', 'd', 'x', 'c', 'l'}, {}

-- new_activity returns the activity whose keys begin at KEYS[at], always the same one.
local function new_activity(at)
  local key = KEYS[at]
  activities[key] = activities[key] or {a = key, b = KEYS[at + 1], r = KEYS[at + 2], changed = {}, done = {}}
  return activities[key]
end

local function field(act, name) return redis.call('HGET', act.a, name) end

-- save writes what changed of an activity.
local function save(act)
  if not act.freed then
    for _, ordinal in ipairs(act.done) do redis.call('LSET', act.r, ordinal, '') end
  end
  local fields = {}
  for name, value in pairs(act.changed) do fields[#fields + 1], fields[#fields + 2] = name, value end
  if #fields > 0 then redis.call('HSET', act.a, unpack(fields)) end
end

-- look_up reads an activity's ID, URI and counts, once. What changes of them is written at the end.
local function look_up(act)
  if act.counts then return act end
  local about = redis.call('HMGET', act.a, 'i', 'u', unpack(COUNTS))
  act.id, act.uri, act.counts = about[1], about[2], {}
  for i, name in ipairs(COUNTS) do act.counts[name] = tonumber(about[2 + i] or 0) end
  at_end[#at_end + 1] = function() save(act) end
  return act
end

local function count(act, name, n)
  local c = look_up(act).counts
  c[name] = c[name] + n
  act.changed[name] = c[name]
end

-- counts returns how many deliveries of an activity pend, and how many are dead letters.
local function counts(act)
  local c = look_up(act).counts
  return c.n - c.d - c.x - c.c, c.l
end

-- forget_among takes an ID out of those that are joined under a name.
local function forget_among(name, id)
  local ids = redis.call('HGET', URIS, name) or ''
  for i = 1, #ids, 16 do
    if string.sub(ids, i, i + 15) == id then
      ids = string.sub(ids, 1, i - 1) .. string.sub(ids, i + 16)
      break
    end
  end
  if ids == '' then redis.call('HDEL', URIS, name) else redis.call('HSET', URIS, name, ids) end
end

local function forget_uri(act) forget_among(look_up(act).uri, act.id) end

-- free drops what only deliveries and dead letters need. The activity can be looked up until its retention is over.
local function free(act, id, finished)
  redis.call('DEL', act.b, act.r)
  redis.call('ZADD', DONE, finished or field(act, 'f') or now, id)
  act.freed = true
end

-- finish closes an activity of which nothing pends any more in this partition: since now or, if that is given, since at.
local function finish(act, at)
  local pending, letters = counts(act)
  if pending > 0 then return end
  at = at or now
  act.changed.f = at
  redis.call('ZREM', EXPIRES, act.id)
  redis.call('ZREM', PENDING, act.id)
  forget_uri(act)
  if letters == 0 then free(act, act.id, at) end
end

-- delivered counts a delivery as delivered.
local function delivered(act, ordinal)
  count(act, 'd', 1)
  act.done[#act.done + 1] = ordinal
  total('delivered', 1)
  total('pending', -1)
  rate('delivered', 1)
end

local function cancelled(act, ordinal)
  count(act, 'c', 1)
  act.done[#act.done + 1] = ordinal
  total('pending', -1)
end

local function letter_name(id, ordinal) return id .. struct.pack('>I4', ordinal) end

-- filed returns how a letter is filed by its host and by its reason.
local function filed(name, letter)
  local rest = '\0' .. struct.pack('>I8', letter[6]) .. name
  return 'h' .. letter[1] .. rest, 'r' .. letter[4] .. rest
end

-- died makes a dead letter of a delivery, and returns its name. It died now or, if that is given, at: in the store that
-- it was moved from.
local function died(act, e, host, reason, at)
  count(act, 'x', 1)
  count(act, 'l', 1)
  total('pending', -1)
  total('dead', 1)
  if not at then
    total('died:' .. reason, 1)
    rate('dead', 1)
  end
  redis.call('LSET', act.r, e.ordinal, '!' .. redis.call('LINDEX', act.r, e.ordinal))
  local name = letter_name(e.activity, e.ordinal)
  local letter = {host, e.rest, e.headers, reason, e.attempts, at or now, e.id and string.format('%.0f', e.id)}
  local by_host, by_reason = filed(name, letter)
  redis.call('ZADD', DEAD, at or now, name)
  redis.call('ZADD', FILED, 0, by_host, 0, by_reason)
  redis.call('HSET', LETTERS, name, cjson.encode(letter) .. '\n' .. e.last)
  return name
end

-- unfile takes a dead letter out, and returns what it was, or nil if it isn't there.
local function unfile(act, name)
  local text = redis.call('HGET', LETTERS, name)
  if not text then return end
  local about, last = string.match(text, '^([^\n]*)\n(.*)$')
  local letter = cjson.decode(about)
  letter.last = last
  redis.call('HDEL', LETTERS, name)
  redis.call('ZREM', DEAD, name)
  redis.call('ZREM', FILED, filed(name, letter))
  count(act, 'l', -1)
  total('dead', -1)
  return letter
end
