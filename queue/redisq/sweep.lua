#!lua flags=no-writes
-- Looks for what is over.
--
-- ARGV[2…4] how long finished activities, dead letters (0: for ever) and staged activities last, in ms
-- ARGV[5]   how many of a kind at most
-- RETURNS   {in how many ms there is more, how many dead letters there are, expired activities, dead letters, finished
--           activities, staged activities, hosts in excess}
local soonest = -1

-- over returns what is in a set for longer than it lasts, and notes when that is true for the next.
local function over(key, lasts)
  local before = string.format('%.0f', now - lasts)
  local first = redis.call('ZRANGEBYSCORE', key, '(' .. before, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  if first and (soonest < 0 or first + lasts - now < soonest) then soonest = first + lasts - now end
  return redis.call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, ARGV[5])
end

local expired = over(EXPIRES, 0)
local letters = tonumber(ARGV[3]) > 0 and over(DEAD, tonumber(ARGV[3])) or {}
local done = over(DONE, tonumber(ARGV[2]))
local staged = over(STAGED, tonumber(ARGV[4]))
local excess = over(EXCESS, 0)
return {soonest, redis.call('ZCARD', DEAD), expired, letters, done, staged, excess}
