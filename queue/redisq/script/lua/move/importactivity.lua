#!lua
-- Stores an activity that another store held, whole or not at all, where all its recipients are in its home partition.
--
-- USES lane(read_lane), place(total, signal), marks(mark_keys, mark_activity), activity(new_activity, signs, finish)
-- USES intake(look_around, describe, enter_all, described, sort_out, lanes_from, answer_known, remember), moved(keep_past, adopt_all)
-- KEYS.submission… as those of a submission, see enqueue.lua
-- ARGV.submission… likewise; behind the recipients is the activity's past
-- RETURNS          what look_around returns; {'mismatch'}; else {'new' or 'known', what the client wanted back, accepted, 0, ''}
local at, key, lanes = ARGV.submission, KEYS.submission, {}
local first = lanes_from(at, key)
local answer = answer_known(at, key, 'known')
if answer then return answer end
local to, past = cmsgpack.unpack(ARGV[at + TO])
local d = described(at, past)
local other = look_around(d, ARGV[at + PASSED])
if other then return other end

local accepted, n = sort_out(to, function(i, host)
  lanes[host] = lanes[host] or read_lane(first + 6 * i, host)
  return lanes[host]
end, d)
local act = new_activity(key)
describe(act, ARGV[at + BODY], d, 'p', '0', 'n', n)
keep_past(act, past)
adopt_all(act, accepted, lanes, d)
total('activities', 1)
mark_activity(d, key, first - mark_keys(d.marks))
total('pending', n)
signs(d.key, n)
enter_all()
finish(act, past[5])
remember(at, key, n, 0, '')
signal()
return {'new', ARGV[at + HEAD], n, 0, ''}
