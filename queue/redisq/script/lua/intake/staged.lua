#!lua flags=no-writes
-- Looks at what was staged first.
--
-- KEYS.activity×2 the activity's a and r
-- KEYS.staging    what is staged
-- RETURNS         {the number of the call that staged it, the hosts it goes to}, {} if there is none
local first = math.huge
for _, n in ipairs(redis.call('HKEYS', KEYS.staging)) do first = math.min(first, n) end
if first == math.huge then return {} end
local hosts = {}
local _, items = cmsgpack.unpack(redis.call('HGET', KEYS.staging, first))
for i, item in ipairs(items) do hosts[i] = item[1] end
return {tostring(first), hosts}
