-- How orders that cover other hosts are kept. It stands after lane.lua.
--
-- Each partition has all of them. When one changes, all lanes of the partition have to be looked at, as they are listed by their
-- states: REVIEW says from which name on, behind the number of the review, so that an older one cannot end it.
local REVIEW = KEYS.review

local function review()
  redis.call('SET', REVIEW, redis.call('HINCRBY', STATS, 'reviews', 1) .. ' ')
end

-- count_covers notes whether there are any, and when the first of them ends.
local function count_covers()
  local all, first = redis.call('HGETALL', COVERS), math.huge
  for i = 2, #all, 2 do
    local order = order_of('', '', all[i])
    if order and order.ends > 0 then first = math.min(first, order.ends) end
  end
  if #all > 0 then redis.call('HSET', STATS, 'covers', #all / 2) else redis.call('HDEL', STATS, 'covers') end
  if first < math.huge then redis.call('HSET', STATS, 'lapse', string.format('%.0f', first)) else redis.call('HDEL', STATS, 'lapse') end
  review()
end

-- cover keeps an order that covers others, or drops it if packed is nil.
local function cover(letter, name, packed)
  if packed then
    redis.call('HSET', COVERS, letter .. name, packed)
  elseif redis.call('HDEL', COVERS, letter .. name) == 0 then
    return
  end
  count_covers()
end

-- end_covers drops those whose time has passed, and returns when the next ends, nil if none does.
local function end_covers()
  local lapse = tonumber(redis.call('HGET', STATS, 'lapse') or nil)
  if not lapse or lapse > now then return lapse end
  local all = redis.call('HGETALL', COVERS)
  for i = 1, #all, 2 do
    if not order_of('', '', all[i + 1]) then redis.call('HDEL', COVERS, all[i]) end
  end
  count_covers()
  return tonumber(redis.call('HGET', STATS, 'lapse') or nil)
end

-- new_order packs an order that begins now, or as one did that it replaces, and returns it and when it ends, 0 if never.
local function new_order(before, lasts, covers, reason, by)
  local ends = lasts > 0 and now + lasts or 0
  return cmsgpack.pack(before and before.since or now, ends, covers, reason, by), ends
end
