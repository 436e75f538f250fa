#!lua
-- Claims an idempotency key for a submission that is stored in steps.
--
-- KEYS[FIRST] the claim: HASH, see enqueue.lua, t when it was claimed, i the activity's ID or, while it is not
--             committed, s
-- ARGV[2]     the fingerprint
-- ARGV[3]     a nonce of this call, so that it may be repeated
-- ARGV[4]     the activity's ID
-- ARGV[5]     how long the claim lasts unless it is committed, in ms
-- RETURNS     {'go', when it was claimed in ms}; {'wait'} while another holds it; {'mismatch'}; or what enqueue.lua
--             returns for one committed
local claim = redis.call('HMGET', KEYS[FIRST], 'f', 'o', 'h', 'n', 'd', 'x', 's', 't', 'c')
if not claim[1] then
  redis.call('HSET', KEYS[FIRST], 'f', ARGV[2], 'o', ARGV[3], 's', ARGV[4], 't', now)
  redis.call('PEXPIRE', KEYS[FIRST], ARGV[5])
  return {'go', now}
end
if claim[1] ~= ARGV[2] then return {'mismatch'} end
if claim[7] then
  return claim[2] == ARGV[3] and {'go', tonumber(claim[8])} or {'wait'}
end
return {'known', claim[3], claim[4], claim[5], claim[6], claim[9] or 0}
