#!lua flags=allow-oom
-- Offers lanes that are due, drawn at random.
--
-- ARGV[2] how many at most
-- ARGV[3] how many of these may be suspect
-- ARGV[4] how long an offered lane is kept from others, in ms
-- ARGV[5] a seed
-- RETURNS in how many ms another lane is due, -1 if none is; how many of the lanes are suspect; their hosts
local PAGES = 20 -- of those due much later that are looked at in one call
local want, suspects, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
math.randomseed(tonumber(ARGV[5]))
redis.call('ZREMRANGEBYSCORE', OFFERED, '-inf', now)

-- bring puts those of a page whose time has come where they are drawn from, and returns the rest and when the first of
-- that is due, in s.
local function bring(all)
  local rest, first = {}, math.huge
  for text in string.gmatch(all, '[^\n]+') do
    local at = tonumber(string.sub(text, 1, 8), 16)
    if at * 1000 <= now then
      redis.call('ZADD', KEYS[1 + tonumber(string.sub(text, 9, 9))], at * 1000, string.sub(text, 10))
    else
      rest[#rest + 1] = text
      first = math.min(first, at)
    end
  end
  return #rest > 0 and table.concat(rest, '\n') .. '\n' or '', first
end

-- bring_later does so for some pages, and returns when the next lane that is due much later is, in s, 0 if none is.
local function bring_later()
  local first = tonumber(redis.call('HGET', STATS, 'later') or 0)
  if first == 0 or first * 1000 > now then return first end
  local page, next_at = redis.call('ZRANGE', LATER.index, 0, 0)[1], math.huge
  for _ = 1, PAGES do
    if not page or next_at < math.huge then break end
    local rest
    rest, next_at = bring(redis.call('HGET', LATER.pages, page))
    replace(LATER, page, rest)
    page = page_after(LATER, page)
  end
  if next_at == math.huge then next_at = page and first or 0 end
  redis.call('HSET', STATS, 'later', next_at)
  return next_at
end
local later = bring_later()

local ready, moved, drawn = {}, {}, {} -- by set: how many are left to draw, which stands where another was, what was drawn
for i = 0, 5 do
  ready[i], moved[i], drawn[i] = redis.call('ZCOUNT', KEYS[2 + i], '-inf', now), {}, {}
end

-- draw_from returns a random lane of a class: of sixteen draws nine look at lanes with high work first, five at normal,
-- two at low, so that each gets its share while there is any of it.
local function draw_from(class)
  local n, first = math.random(0, 15), 0
  if n >= 14 then first = 2 elseif n >= 9 then first = 1 end
  for i = 0, 2 do
    local set = class * 3 + (first + i) % 3
    if ready[set] > 0 then
      local at, last = math.random(0, ready[set] - 1), ready[set] - 1
      local place = moved[set][at] or at
      moved[set][at], ready[set] = moved[set][last] or last, last
      return redis.call('ZRANGE', KEYS[2 + set], place, place)[1], set
    end
  end
end

local function draw()
  local class = suspects > 0 and math.random(0, 1) or 0
  local host, set = draw_from(class)
  if not host and suspects > 0 then host, set = draw_from(1 - class) end
  return host, set
end

local answer, offered = {-1, 0}, {}
while #answer < want + 2 do
  local host, set = draw()
  if not host then break end
  if set >= 3 then
    suspects = suspects - 1
    answer[2] = answer[2] + 1
  end
  for _, list in ipairs({drawn[set], offered}) do list[#list + 1], list[#list + 2] = now + ttl, host end
  answer[#answer + 1] = host
end
for i = 0, 5 do call_all('ZADD', KEYS[2 + i], drawn[i]) end
call_all('ZADD', OFFERED, offered)
for i = 0, 5 do
  local first = redis.call('ZRANGEBYSCORE', KEYS[2 + i], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] and (answer[1] < 0 or first[2] - now < answer[1]) then answer[1] = first[2] - now end
end
if later > 0 then
  local wait = math.max(0, later * 1000 - now)
  if answer[1] < 0 or wait < answer[1] then answer[1] = wait end
end
return answer
