#!lua
-- Stores a submission whole. It is for stores of one partition; others do it in steps, see stage.lua.
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3]       the claim of its idempotency key: HASH f fingerprint, o nonce of the call, h what the client made
--                     of the receipt, n accepted, d duplicates, x refused, c cancelled
-- KEYS[FIRST+4…]      the r of other activities of the same URI, then six keys for each lane
-- ARGV[2…9]           ID, description, hash of the URI, ordering key and key ID, priority, TTL in ms, whether it makes
--                     what its ordering key names
-- ARGV[10]            the body
-- ARGV[11]            a nonce of this call, so that it may be repeated
-- ARGV[12]            the fingerprint
-- ARGV[13]            what the client wants back from the receipt
-- ARGV[14]            how long the claim lasts, in ms
-- ARGV[15]            the IDs of the other activities, joined
-- ARGV[16]            the IDs of activities, joined, that are staged with the same ordering key and not decided about
-- ARGV[17]            the recipients, packed: see sort_out
-- RETURNS             {'again', IDs} if these are the other activities really; {'staged', ID} if one of them is not
--                     decided about yet; {'behind', IDs} if these are staged; {'mismatch'}; else {'new' or 'known', what the client wanted back, accepted,
--                     duplicates, refused, cancelled}
local claim = redis.call('HMGET', KEYS[FIRST + 3], 'f', 'o', 'h', 'n', 'd', 'x', 'c')
if claim[1] then
  if claim[1] ~= ARGV[12] then return {'mismatch'} end
  return {claim[2] == ARGV[11] and 'new' or 'known', claim[3], claim[4], claim[5], claim[6], claim[7] or 0}
end
local d = described(2)
local known = redis.call('HGET', URIS, d.uri) or ''
if known ~= ARGV[15] then return {'again', known} end
local staged = undecided(known)
if staged then return {'staged', staged} end
local before = to_stand_behind(d.ordering, ARGV[16])
if before then return {'behind', before} end

local others = {}
for i = 1, #known / 16 do others[i] = FIRST + 3 + i end
local lanes = {}
local accepted, n, duplicates, refused = sort_out(cmsgpack.unpack(ARGV[17]), function(i, host)
  lanes[host] = read_for_push(FIRST + 4 + #others + 6 * i, host)
  return lanes[host]
end, d.priority, pending_inboxes(others))
local refused_text = #refused > 0 and cjson.encode(refused) or ''
if n == 0 and duplicates == 0 then return {'new', '', 0, 0, refused_text, 0} end

local act = new_activity(FIRST)
describe(act, ARGV[10], d, known, 'p', '0', 'n', n)
total('activities', 1)
total('pending', n)
push_all(act, accepted, lanes, d)
if n == 0 then finish(act) end
redis.call('HSET', KEYS[FIRST + 3], 'f', ARGV[12], 'o', ARGV[11], 'h', ARGV[13], 'n', n, 'd', duplicates, 'x', refused_text)
redis.call('PEXPIRE', KEYS[FIRST + 3], ARGV[14])
signal()
return {'new', ARGV[13], n, duplicates, refused_text, 0}
