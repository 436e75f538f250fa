#!lua
-- Stores some of a submission's deliveries where nobody takes them yet. A submission of several partitions, or one too
-- large for a single script, is stored in steps: its idempotency key is claimed (claim.lua), all its deliveries are
-- staged, the claim is committed (commit.lua), and what is staged goes into the lanes (release.lua). Sweep does the rest
-- for a node that died on the way: release what is committed, take back what is not (unstage.lua).
--
-- KEYS[FIRST…FIRST+2] the activity's a, b and r
-- KEYS[FIRST+3]       what is staged: HASH by number of the call of what that returned and the recipients as sort_out has them,
--                     both packed, or of 1 and the deliveries as moved.lua has them
-- KEYS[FIRST+4…]      the r of other activities of the same URI, then the h of each lane
-- ARGV[2…9]           ID, description, hash of the URI, ordering key and key ID, priority, TTL in ms, whether it makes
--                     what its ordering key names
-- ARGV[10]            the body
-- ARGV[11]            the claim's name
-- ARGV[12]            the partitions of the activity if this is its home, else ''
-- ARGV[13]            number of this call for this activity and partition, so that it may be repeated
-- ARGV[14]            when the submission was claimed, in ms: all partitions shall tell the same
-- ARGV[15]            the IDs of the other activities, joined
-- ARGV[16]            the IDs of activities, joined, that are staged with the same ordering key and not decided about
-- ARGV[17]            the recipients, packed: see sort_out
-- RETURNS             {'again', IDs} if these are the other activities really; {'staged', ID} if one of them is not
--                     decided about yet; {'behind', IDs} if these are staged; else {'new', '', accepted, duplicates, refused, 0}
local d, act = described(2), new_activity(FIRST)
local earlier = redis.call('HGET', KEYS[FIRST + 3], ARGV[13])
if earlier then return (cmsgpack.unpack(earlier)) end

local known, on_their_way = look_around(d)
local own = d.id
local ids, others = '', {}
for i = 1, #known, 16 do
  local id = string.sub(known, i, i + 15)
  if id ~= own then
    ids = ids .. id
    others[#others + 1] = FIRST + 4 + #others
  end
end
if ids ~= ARGV[15] then return {'again', ids} end
local staged = undecided(ids)
if staged then return {'staged', staged} end
local first = tonumber(redis.call('HGET', act.a, 'n'))
local before = not first and to_stand_behind(on_their_way, ARGV[16])
if before then return {'behind', before} end

d.created = tonumber(ARGV[14])
local to = cmsgpack.unpack(ARGV[17])
local accepted, n, duplicates, refused = sort_out(to, function(i, host)
  return read_refusing(FIRST + 4 + #others + i, host)
end, d.priority, pending_inboxes(others))
redis.call('ZADD', STAGED, now, d.id)
if first then
  redis.call('HINCRBY', act.a, 'n', n)
else
  describe(act, ARGV[10], d, known, 's', ARGV[11], 'n', n)
  redis.call('HSET', URIS, 'o' .. d.ordering, on_their_way .. d.id)
  if ARGV[12] ~= '' then
    redis.call('HSET', act.a, 'p', ARGV[12])
    total('activities', 1)
  end
end
total('pending', n)
local answer = {'new', '', n, duplicates, #refused > 0 and cjson.encode(refused) or '', 0}
local all = duplicates + #refused == 0
redis.call('HSET', KEYS[FIRST + 3], ARGV[13], cmsgpack.pack(answer) .. (all and ARGV[17] or cmsgpack.pack(accepted)))
signal()
return answer
