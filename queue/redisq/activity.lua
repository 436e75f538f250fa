-- What the scripts that touch activities share. It stands after lane.lua.
--
-- An activity is kept, in each partition it goes to, in three keys:
--   a  HASH: m description, i its ID, u hash of its URI, o of its ordering key, k of its key ID, q priority,
--      e when it expires, t when it was accepted, n d x c counts (all, delivered, dead, cancelled), l dead letters, f when it was finished,
--      p partitions (only in its home partition), s claim (while it is not yet committed), j when it was finished in the
--      store that it was moved from (while it is staged)
--   b  STRING: the body, while anything pends or is a dead letter
--   r  LIST, as long as the body: where each delivery goes, "HOST/PATH" or "HOST\nINBOX"; '' once it is done, with a
--      "!" before it once it is a dead letter
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
  redis.call('HINCRBY', STATS, 'delivered', 1)
  redis.call('HINCRBY', STATS, 'pending', -1)
end

local function cancelled(act, ordinal)
  redis.call('HINCRBY', act.a, 'c', 1)
  redis.call('LSET', act.r, ordinal, '')
  redis.call('HINCRBY', STATS, 'pending', -1)
end

-- died makes a dead letter of a delivery: now or, if that is given, at.
local function died(act, e, host, reason, at)
  redis.call('HINCRBY', act.a, 'x', 1)
  redis.call('HINCRBY', act.a, 'l', 1)
  redis.call('HINCRBY', STATS, 'pending', -1)
  redis.call('HINCRBY', STATS, 'dead', 1)
  redis.call('LSET', act.r, e.ordinal, '!' .. redis.call('LINDEX', act.r, e.ordinal))
  local id = e.activity .. struct.pack('>I4', e.ordinal)
  redis.call('ZADD', DEAD, at or now, id)
  redis.call('HSET', LETTERS, id, cjson.encode({host, e.rest, e.headers, reason, e.attempts, e.last, at or now}))
end
