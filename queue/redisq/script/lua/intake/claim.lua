#!lua
-- Claims an idempotency key for a submission that is stored in steps.
--
-- USES lane(now)
-- KEYS.claim       the claim: HASH, see enqueue.lua, t when it was claimed, i the activity's ID or, while it is not
--                  committed, s
-- ARGV.fingerprint the fingerprint
-- ARGV.nonce       a nonce of this call, so that it may be repeated
-- ARGV.id          the activity's ID
-- ARGV.ttl         how long the claim lasts unless it is committed, in ms
-- RETURNS          {'go', when it was claimed in ms}; {'wait'} while another holds it; {'mismatch'}; or what enqueue.lua
--                  returns for one committed
local claim = redis.call('HMGET', KEYS.claim, 'f', 'o', 'h', 'n', 'd', 'x', 's', 't')
if not claim[1] then
  redis.call('HSET', KEYS.claim, 'f', ARGV.fingerprint, 'o', ARGV.nonce, 's', ARGV.id, 't', now)
  redis.call('PEXPIRE', KEYS.claim, ARGV.ttl)
  return {'go', string.format('%.0f', now)}
end
if claim[1] ~= ARGV.fingerprint then return {'mismatch'} end
if claim[7] then
  return claim[2] == ARGV.nonce and {'go', claim[8]} or {'wait'}
end
return {'known', claim[3], claim[4], claim[5], claim[6]}
