#!lua
-- Stores some of a submission's deliveries where they are not taken yet. A submission of several partitions, or one too
-- large for a single script, is stored in steps: its idempotency key is claimed (claim.lua), all its deliveries are
-- staged, the claim is committed (commit.lua), and what is staged goes into the lanes (release.lua). Sweep does the rest
-- for a node that died on the way: release what is committed, take back what is not (unstage.lua).
--
-- USES lane(now), bodies(holders), place(total, signal), marks(mark_activity), activity(new_activity, signs)
-- USES intake(look_around, read_refusing, describe, enter_all, described, read_for_push, sort_out), moved(keep_past)
-- KEYS.activity×2   the activity's a and r
-- KEYS.marks×5      those of its marks, see marks.lua
-- KEYS.staging      what is staged: HASH by number of the call of what that returned and the recipients as sort_out
--                   has them, and the activity's past, all packed
-- KEYS.lanes…       the h of each lane or, if that is not enough, six keys: all six at first would cost a large
--                   submission a tenth more
-- ARGV.described×13 see described
-- ARGV.body         the body
-- ARGV.claim        the claim's name
-- ARGV.partitions   the partitions of the activity if this is its home, else ''
-- ARGV.several      whether recipients are in several partitions
-- ARGV.call         number of this call for this activity and partition, so that it may be repeated
-- ARGV.claimed      when the submission was claimed, in ms: the same in all partitions
-- ARGV.passed       the IDs of activities, joined, that are staged with the same ordering key and not decided about
-- ARGV.to           the recipients, packed: see sort_out; and then the activity's past, if it has one
-- RETURNS           what look_around returns; {'lanes'} if it needs all keys of the lanes; else {'new', '', accepted,
--                   duplicates, refused}
local to, past = cmsgpack.unpack(ARGV.to)
local d, act = described(ARGV.described, past), new_activity(KEYS.activity)
local earlier = redis.call('HGET', KEYS.staging, ARGV.call)
if earlier then return (cmsgpack.unpack(earlier)) end

local there = redis.call('HEXISTS', act.a, 'n') == 1
local other = not there and look_around(d, ARGV.passed)
if other then return other end
if not past then d.created = tonumber(ARGV.claimed) end
local repeats = not past and d.held and not (there and holders(d.held) == 1)
local each = #KEYS - KEYS.lanes + 1 == 6 * #to and 6 or 1 -- keys of a lane
if repeats and each == 1 and #to > 0 then return {'lanes'} end
local accepted, n, duplicates, refused = sort_out(to, function(i, host)
  return (repeats and read_for_push or read_refusing)(KEYS.lanes + each * i, host)
end, d, repeats)
redis.call('ZADD', STAGED, now, d.id)
if there then
  redis.call('HINCRBY', act.a, 'n', n)
else
  describe(act, ARGV.body, d, 's', ARGV.claim, 'n', n, unpack(ARGV.several == '1' and {'g', ARGV.partitions == '' and 0 or 'h'} or {}))
  enter_all()
  redis.call('HSET', ORDERED, d.ordering, (redis.call('HGET', ORDERED, d.ordering) or '') .. d.id .. d.body)
  if ARGV.partitions ~= '' then
    redis.call('HSET', act.a, 'p', ARGV.partitions)
    total('activities', 1)
    mark_activity(d, KEYS.activity, KEYS.marks)
    if past then keep_past(act, past) end
  end
end
total('pending', n)
signs(d.key, n)
local answer = {'new', '', n, duplicates, #refused > 0 and cjson.encode(refused) or ''}
local all = duplicates + #refused == 0
redis.call('HSET', KEYS.staging, ARGV.call, cmsgpack.pack(answer) .. (all and ARGV.to or cmsgpack.pack(accepted)))
signal()
return answer
