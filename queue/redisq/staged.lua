#!lua flags=no-writes
-- Looks at what was staged first.
--
-- KEYS[FIRST+3] what is staged
-- RETURNS       the number of the call that staged it, and the hosts it goes to; nothing if there is none
local first = math.huge
for _, n in ipairs(redis.call('HKEYS', KEYS[FIRST + 3])) do first = math.min(first, n) end
if first == math.huge then return {} end
local answer = {tostring(first)}
local _, items = cmsgpack.unpack(redis.call('HGET', KEYS[FIRST + 3], first))
for i, item in ipairs(items) do answer[i + 1] = item[1] end
return answer
