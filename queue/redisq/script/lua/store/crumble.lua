#!lua flags=allow-oom
-- Drops tombstones that stood for long enough.
--
-- USES tombstones(tombstone)
-- ARGV.tombs… the first of TOMBS
-- RETURNS     how many were dropped
local dropped = 0
for i = ARGV.tombs, #ARGV do
  if redis.call('LINDEX', TOMBS, 0) ~= ARGV[i] then break end
  redis.call('LPOP', TOMBS)
  dropped = dropped + 1
  local object = string.sub(ARGV[i], 9)
  local deletion, text = tombstone(object)
  if deletion == 0 or deletion == struct.unpack('>I8', ARGV[i]) then
    redis.call('HDEL', TOMBSTONES, object, 'u' .. string.sub(text, 25, 40))
  end
end
return dropped
