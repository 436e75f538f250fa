-- Stores some of a submission's deliveries where nobody takes them yet. A submission of several partitions, or one too
-- large for a single script, is stored in steps: its idempotency key is claimed (claim.lua), all its deliveries are
-- staged, the claim is committed (commit.lua), and what is staged goes into the lanes (release.lua). Sweep does the rest
-- for a node that died on the way: release what is committed, take back what is not (unstage.lua).
--
-- KEYS[18…20]  the activity's a, b and r
-- KEYS[21]     what is staged: LIST of {host, path, headers, ordinal}, and more of what was moved, see moved.lua
-- KEYS[22…]    the r of other activities of the same URI, then the h of each lane
-- ARGV[2…8]    ID, description, hash of the URI, ordering key and key ID, priority, TTL in ms
-- ARGV[9]      the body
-- ARGV[10]     the claim's name
-- ARGV[11]     the partitions of the activity if this is its home, else ''
-- ARGV[12]     number of this call for this activity and partition, so that it may be repeated
-- ARGV[13]     when the submission was claimed, in ms: all partitions shall tell the same
-- ARGV[14]     the IDs of the other activities, joined
-- ARGV[15…]    the recipients, by lane: see sort_out
-- RETURNS      {'again', IDs} if these are the other activities really; {'staged', ID} if one of them is not decided about
--              yet; else {'new', '', accepted, duplicates, refused}
local d, act = described(2), new_activity(18)
local last = redis.call('HMGET', act.a, 'g', 'y')
if last[1] == ARGV[12] then return cjson.decode(last[2]) end

local known, own = redis.call('HGET', URIS, d.uri) or '', d.id
local ids, others = '', {}
for i = 1, #known, 16 do
  local id = string.sub(known, i, i + 15)
  if id ~= own then
    ids = ids .. id
    others[#others + 1] = 22 + #others
  end
end
if ids ~= ARGV[14] then return {'again', ids} end
local staged = undecided(ids)
if staged then return {'staged', staged} end

d.created = tonumber(ARGV[13])
describe(act, ARGV[9], d)
redis.call('ZADD', STAGED, now, d.id)
redis.call('HSET', act.a, 's', ARGV[10])
if ARGV[11] ~= '' and redis.call('HSETNX', act.a, 'p', ARGV[11]) == 1 then
  redis.call('HINCRBY', STATS, 'activities', 1)
end
local accepted, duplicates, refused = sort_out(15, function(i, host)
  return read_state(22 + #others + i, host)
end, d.priority, pending_inboxes(others))
local first = list(act, accepted)
for i, to in ipairs(accepted) do
  redis.call('RPUSH', KEYS[21], cmsgpack.pack({string.sub(to.inbox, 1, #to.inbox - #to.rest), to.rest, to.headers, first + i - 1}))
end
local answer = {'new', '', #accepted, duplicates, #refused > 0 and cjson.encode(refused) or ''}
redis.call('HSET', act.a, 'g', ARGV[12], 'y', cjson.encode(answer))
return answer
