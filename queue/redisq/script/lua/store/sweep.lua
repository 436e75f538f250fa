#!lua flags=allow-oom
-- Looks for what is over.
--
-- USES lane(now, keep_time, created_at), covers(end_covers)
-- ARGV.retention      how long finished activities last, in ms
-- ARGV.dead_retention how long dead letters do, 0: without end
-- ARGV.staging        how long staged activities do
-- ARGV.feed_retention how long entries of the feed do, 0: without end
-- ARGV.most           how many of a kind at most
-- RETURNS             {in how many ms there is more, how many dead letters and entries of the feed there are, {expired
--                     activities, dead letters, finished activities, staged activities, hosts in excess, tombstones,
--                     deliveries that are superseded and not yet counted, activities whose homes are to hear of them},
--                     how far the review of lanes is, '' if there is none}
keep_time()
local lapse, soonest = end_covers(), -1
if lapse then soonest = lapse - now end

-- note notes when something will be over.
local function note(at)
  if soonest < 0 or at - now < soonest then soonest = at - now end
end

-- over returns what is in a set for longer than it lasts, and notes when that is true for the next.
local function over(key, lasts)
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  if not first then return {} end
  if first + lasts <= now then
    local before = string.format('%.0f', now - lasts)
    first = redis.call('ZRANGEBYSCORE', key, '(' .. before, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
    if first then note(first + lasts) end
    return redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, ARGV.most)
  end
  note(first + lasts)
  return {}
end

local expired = over(EXPIRES, 0)
local letters = tonumber(ARGV.dead_retention) > 0 and over(DEAD, tonumber(ARGV.dead_retention)) or {}
local done = over(DONE, tonumber(ARGV.retention))
local staged = over(STAGED, tonumber(ARGV.staging))
local excess = over(EXCESS, 0)
local outdated = over(OUTDATED, tonumber(ARGV.staging))

-- old_tombstones returns the first of the tombstones, as far as they are over.
local function old_tombstones(lasts)
  local old = {}
  for _, text in ipairs(redis.call('LRANGE', TOMBS, 0, ARGV.most - 1)) do
    if #text >= 8 then -- or it is damaged
      local left = created_at({id = struct.unpack('>I8', text)}) + lasts - now
      if left > 0 then
        note(now + left)
        break
      end
      old[#old + 1] = text
    end
  end
  return old
end
local tombs = tonumber(ARGV.dead_retention) > 0 and old_tombstones(tonumber(ARGV.dead_retention)) or {}

-- fed_entries drops old entries of the feed, and returns how many are left. A key that another program has overwritten has none.
local function fed_entries(lasts)
  if lasts > 0 then redis.pcall('XTRIM', FEED, 'MINID', string.format('%.0f', math.max(0, now - lasts))) end
  local n = redis.pcall('XLEN', FEED)
  return type(n) == 'number' and n or 0
end
local entries = fed_entries(tonumber(ARGV.feed_retention))
local reports = over(ENDED, tonumber(ARGV.staging))
return {soonest, redis.call('ZCARD', DEAD), entries, {expired, letters, done, staged, excess, tombs, outdated, reports},
  redis.call('GET', REVIEW) or ''}
