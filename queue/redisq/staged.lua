#!lua flags=no-writes
-- Looks at some of what is staged.
--
-- KEYS[FIRST+3] what is staged
-- RETURNS       the number of the call that staged it, and the host of each delivery; nothing if there is none
local number = redis.call('HKEYS', KEYS[FIRST + 3])[1]
if not number then return {} end
local answer = {number}
for i, item in ipairs(cmsgpack.unpack(redis.call('HGET', KEYS[FIRST + 3], number))[2]) do answer[i + 1] = item[1] end
return answer
