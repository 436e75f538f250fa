#!lua flags=allow-oom
-- Offers lanes that are due, drawn at random.
--
-- USES pages(page_after, replace), lane(LATER, DUE_SETS, lag, now, keep_time, call_all)
-- ARGV.want     how many at most
-- ARGV.suspects how many of these may be suspect
-- ARGV.ttl      how long an offered lane is kept from others, in ms
-- ARGV.seed     a seed
-- RETURNS       {in how many ms another lane is due, -1 if none is; how many of the lanes are suspect; the lag; the
--               hosts, suspects last}
local PAGES = 20 -- of those due much later that are looked at in one call
local want, suspects, ttl = tonumber(ARGV.want), tonumber(ARGV.suspects), tonumber(ARGV.ttl)
math.randomseed(tonumber(ARGV.seed))
keep_time()
redis.call('ZREMRANGEBYSCORE', OFFERED, '-inf', now)

-- bring puts those of a page whose time has come where they are drawn from, and returns the rest and when the first of
-- that is due, in s.
local function bring(all)
  local rest, first = {}, math.huge
  for text in string.gmatch(all, '[^\n]+') do
    local at = tonumber(string.sub(text, 1, 8), 16)
    if not at or not string.find(text, '^%x%x%x%x%x%x%x%x[1-6]') then
      redis.log(redis.LOG_WARNING, 'garbage: an entry of ' .. LATER.pages .. ' is left out')
    elseif at * 1000 <= now then
      redis.call('ZADD', DUE_SETS[tonumber(string.sub(text, 9, 9))], at * 1000, string.sub(text, 10))
    else
      rest[#rest + 1] = text
      first = math.min(first, at)
    end
  end
  return #rest > 0 and table.concat(rest, '\n') .. '\n' or '', first
end

-- bring_later does so for some pages, and returns when the next lane that is due much later is, in s, 0 if none is.
local function bring_later()
  local first = tonumber(redis.call('HGET', STATS, 'later')) or 0
  if first == 0 or first * 1000 > now then return first end
  local page, next_at = redis.call('ZRANGE', LATER.index, 0, 0)[1], math.huge
  for _ = 1, PAGES do
    if not page or next_at < math.huge then break end
    local rest
    rest, next_at = bring(redis.call('HGET', LATER.pages, page) or '')
    replace(LATER, page, rest)
    page = page_after(LATER, page)
  end
  if next_at == math.huge then next_at = page and first or 0 end
  redis.call('HSET', STATS, 'later', next_at)
  return next_at
end
local later = bring_later()

-- By set: whether it holds any that are not ready, how many are left to draw, which stands where another was, what was drawn.
local waiting, ready, moved, drawn = {}, {}, {}, {}
local filled = redis.call('EXISTS', unpack(DUE_SETS)) -- how many sets are left that hold any, as few do
for i = 0, 5 do
  local set, held = DUE_SETS[DUE + i], 0
  if filled > 0 then held = redis.call('ZCARD', set) end
  if held > 0 then filled = filled - 1 end
  ready[i], moved[i], drawn[i] = held > 0 and redis.call('ZCOUNT', set, '-inf', now) or 0, {}, {}
  waiting[i] = held > ready[i]
end

local shares = DUE_SHARES

-- draw_from returns a random lane of a class. It looks first at those with work of a priority that DUE_SHARES gives, so that
-- each gets its share while there is any of it.
local function draw_from(class)
  local first = shares[math.random(#shares)]
  for i = 0, 2 do
    local n = class * 3 + (first + i) % 3
    if ready[n] > 0 then
      local at, last = math.random(0, ready[n] - 1), ready[n] - 1
      local place = moved[n][at] or at
      moved[n][at], ready[n] = moved[n][last] or last, last
      return redis.call('ZRANGE', DUE_SETS[DUE + n], place, place)[1], n
    end
  end
end

local function draw()
  local class = suspects > 0 and math.random(0, 1) or 0
  local host, n = draw_from(class)
  if not host and suspects > 0 then host, n = draw_from(1 - class) end
  return host, n
end

local hosts, last, offered = {}, {}, {}
while #hosts + #last < want do
  local host, drawn_from = draw()
  if not host then break end
  for _, adds in ipairs({drawn[drawn_from], offered}) do adds[#adds + 1], adds[#adds + 2] = now + ttl, host end
  if drawn_from >= 3 then
    suspects = suspects - 1
    last[#last + 1] = host
  else
    hosts[#hosts + 1] = host
  end
end
for _, host in ipairs(last) do hosts[#hosts + 1] = host end
for i = 0, 5 do call_all('ZADD', DUE_SETS[DUE + i], drawn[i]) end
call_all('ZADD', OFFERED, offered)
local wait = later > 0 and math.max(0, later * 1000 - now) or math.huge
for i = 0, 5 do
  if waiting[i] or #drawn[i] > 0 then
    local first = redis.call('ZRANGEBYSCORE', DUE_SETS[DUE + i], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if first[2] then wait = math.min(wait, first[2] - now) end
  end
end
return {wait < math.huge and wait or -1, #last, lag, hosts}
