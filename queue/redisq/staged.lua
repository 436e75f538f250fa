#!lua flags=no-writes
-- Looks at what is staged first.
--
-- KEYS[FIRST+3] what is staged
-- ARGV[2]       how many deliveries
-- RETURNS       {ordinal of the first, host of each}
local answer = {-1}
for i, text in ipairs(redis.call('LRANGE', KEYS[FIRST + 3], 0, ARGV[2] - 1)) do
  local item = cmsgpack.unpack(text)
  if i == 1 then answer[1] = item[4] end
  answer[i + 1] = item[1]
end
return answer
