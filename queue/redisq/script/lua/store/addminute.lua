#!lua
-- Adds what a node counted to a minute.
--
-- KEYS.minute   the minute: HASH of sums and levels, and a field for each call that has added to it
-- ARGV.by       the field of this call
-- ARGV.lasts    how long the minute is kept, in ms
-- ARGV.sums     how many of the numbers are sums; the others are levels
-- ARGV.numbers… names and numbers, sums first
-- RETURNS       1, or 0 if the call was made before
local names = {ARGV.by}
for i = ARGV.numbers, #ARGV, 2 do names[#names + 1] = ARGV[i] end
local before = redis.call('HMGET', KEYS.minute, unpack(names))
if before[1] then return 0 end
local fields = {ARGV.by, 1}
for i = 2, #names do
  local n = tonumber(ARGV[ARGV.numbers + 2 * i - 3])
  if i - 1 <= tonumber(ARGV.sums) then n = n + (tonumber(before[i]) or 0) end
  fields[#fields + 1] = names[i]
  fields[#fields + 1] = string.format('%.0f', n)
end
redis.call('HSET', KEYS.minute, unpack(fields))
redis.call('PEXPIRE', KEYS.minute, ARGV.lasts)
return 1
