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
--      "!" before it once it is a dead letter
-- A dead letter is named by its activity and ordinal and kept as {host, path, headers, reason, attempts, when it died, its
-- number} in JSON, a line break, and its last attempt. It is filed twice, as "hHOST\0" or "rREASON\0" with when it died, in eight bytes,
-- and its name.
local function new_activity(at) return {a = KEYS[at], b = KEYS[at + 1], r = KEYS[at + 2]} end

local function field(act, name) return redis.call('HGET', act.a, name) end

local function counts(act)
  local c = redis.call('HMGET', act.a, 'n', 'd', 'x', 'c', 'l')
  for i = 1, 5 do c[i] = tonumber(c[i] or 0) end
  return c[1] - c[2] - c[3] - c[4], c[5]
end

local function forget_uri(act, id)
  local uri = field(act, 'u')
  local ids = redis.call('HGET', URIS, uri) or ''
  for i = 1, #ids, 16 do
    if string.sub(ids, i, i + 15) == id then
      ids = string.sub(ids, 1, i - 1) .. string.sub(ids, i + 16)
      break
    end
  end
  if ids == '' then redis.call('HDEL', URIS, uri) else redis.call('HSET', URIS, uri, ids) end
end

-- free drops what only deliveries and dead letters need. The activity can be looked up until its retention is over.
local function free(act, id)
  redis.call('DEL', act.b, act.r)
  redis.call('ZADD', DONE, field(act, 'f') or now, id)
end

-- finish closes an activity of which nothing pends any more in this partition: since now or, if that is given, since at.
local function finish(act, at)
  local pending, letters = counts(act)
  if pending > 0 then return end
  local id = field(act, 'i')
  redis.call('HSET', act.a, 'f', at or now)
  redis.call('ZREM', EXPIRES, id)
  redis.call('ZREM', PENDING, id)
  forget_uri(act, id)
  if letters == 0 then free(act, id) end
end

-- delivered counts a delivery as delivered.
local function delivered(act, ordinal)
  redis.call('HINCRBY', act.a, 'd', 1)
  redis.call('LSET', act.r, ordinal, '')
  total('delivered', 1)
  total('pending', -1)
  rate('delivered', 1)
end

local function cancelled(act, ordinal)
  redis.call('HINCRBY', act.a, 'c', 1)
  redis.call('LSET', act.r, ordinal, '')
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
  redis.call('HINCRBY', act.a, 'x', 1)
  redis.call('HINCRBY', act.a, 'l', 1)
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
  redis.call('HINCRBY', act.a, 'l', -1)
  total('dead', -1)
  return letter
end
