-- Offers lanes that are due, drawn at random.
--
-- ARGV[2] how many at most
-- ARGV[3] how many of these may be suspect
-- ARGV[4] how long an offered lane is kept from others, in ms
-- ARGV[5] a seed
-- RETURNS in how many ms another lane is due, -1 if none is; how many of the lanes are suspect; their hosts
local want, suspects, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
math.randomseed(tonumber(ARGV[5]))
redis.call('ZREMRANGEBYSCORE', OFFERED, '-inf', now)
local ready = {}
for i = 0, 5 do ready[i] = redis.call('ZCOUNT', KEYS[2 + i], '-inf', now) end

-- draw_from returns a random lane of a class: of sixteen draws nine look at lanes with high work first, five at normal,
-- two at low, so that each gets its share while there is any of it.
local function draw_from(class)
  local n, first = math.random(0, 15), 0
  if n >= 14 then first = 2 elseif n >= 9 then first = 1 end
  for i = 0, 2 do
    local set = class * 3 + (first + i) % 3
    if ready[set] > 0 then
      local at = math.random(0, ready[set] - 1)
      ready[set] = ready[set] - 1
      return redis.call('ZRANGE', KEYS[2 + set], at, at)[1], set
    end
  end
end

local function draw()
  local class = suspects > 0 and math.random(0, 1) or 0
  local host, set = draw_from(class)
  if not host and suspects > 0 then host, set = draw_from(1 - class) end
  return host, set
end

local answer = {-1, 0}
while #answer < want + 2 do
  local host, set = draw()
  if not host then break end
  if set >= 3 then
    suspects = suspects - 1
    answer[2] = answer[2] + 1
  end
  redis.call('ZADD', KEYS[2 + set], now + ttl, host)
  redis.call('ZADD', OFFERED, now + ttl, host)
  answer[#answer + 1] = host
end
for i = 0, 5 do
  local first = redis.call('ZRANGEBYSCORE', KEYS[2 + i], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] and (answer[1] < 0 or first[2] - now < answer[1]) then answer[1] = first[2] - now end
end
return answer
