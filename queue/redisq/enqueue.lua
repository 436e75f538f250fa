-- Stores a submission whole. It is for stores of one partition; others do it in steps, see stage.lua.
--
-- KEYS[18…20]  the activity's a, b and r
-- KEYS[21]     the claim of its idempotency key: HASH f fingerprint, o nonce of the call, h what the client made of the
--              receipt, n accepted, d duplicates, x refused
-- KEYS[22…]    the r of other activities of the same URI, then six keys for each lane
-- ARGV[2…8]    ID, description, hash of the URI, ordering key and key ID, priority, TTL in ms
-- ARGV[9]      the body
-- ARGV[10]     a nonce of this call, so that it may be repeated
-- ARGV[11]     the fingerprint
-- ARGV[12]     what the client wants back from the receipt
-- ARGV[13]     how long the claim lasts, in ms
-- ARGV[14]     the IDs of the other activities, joined
-- ARGV[15…]    the recipients, by lane: see sort_out
-- RETURNS      {'again', IDs} if these are the other activities really; {'staged', ID} if one of them is not decided about
--              yet; {'mismatch'}; else {'new' or 'known', what the client wanted back, accepted, duplicates, refused}
local claim = redis.call('HMGET', KEYS[21], 'f', 'o', 'h', 'n', 'd', 'x')
if claim[1] then
  if claim[1] ~= ARGV[11] then return {'mismatch'} end
  return {claim[2] == ARGV[10] and 'new' or 'known', claim[3], claim[4], claim[5], claim[6]}
end
local d = described(2)
local known = redis.call('HGET', URIS, d.uri) or ''
if known ~= ARGV[14] then return {'again', known} end
local staged = undecided(known)
if staged then return {'staged', staged} end

local others = {}
for i = 1, #known / 16 do others[i] = 21 + i end
local lanes = {}
local accepted, duplicates, refused = sort_out(15, function(i, host)
  lanes[i] = read_for_push(22 + #others + 6 * i, host)
  return lanes[i]
end, d.priority, pending_inboxes(others))
local refused_text = #refused > 0 and cjson.encode(refused) or ''
if #accepted == 0 and duplicates == 0 then return {'new', '', 0, 0, refused_text} end

local act = new_activity(18)
describe(act, ARGV[9], d)
redis.call('HSET', act.a, 'p', '0')
redis.call('HINCRBY', STATS, 'activities', 1)
local first = list(act, accepted)
local touched = {}
for i, to in ipairs(accepted) do
  push(to.lane, new_delivery(d.id, d.ordering, d.priority, first + i - 1, to.rest, to.headers))
  touched[to.lane] = true
end
for l in pairs(touched) do write_pushed(l) end
finish(act)
redis.call('HSET', KEYS[21], 'f', ARGV[11], 'o', ARGV[10], 'h', ARGV[12], 'n', #accepted, 'd', duplicates, 'x', refused_text)
redis.call('PEXPIRE', KEYS[21], ARGV[13])
signal()
return {'new', ARGV[12], #accepted, duplicates, refused_text}
