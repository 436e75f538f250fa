#!lua
-- Stores submissions, each whole or not at all. It is for stores of one partition; others do it in steps, see stage.lua.
--
-- USES lane(read), tombstones(note_object), place(total, signal), marks(mark_keys, mark_activity), activity(new_activity, signs, finish)
-- USES moved(keep_past), intake(look_around, describe, enter_all, described, read_for_push, sort_out, push_all)
-- KEYS.submissions… of each submission:
--   1…2   the activity's a and r
--   3     the claim of its idempotency key, if it has one: HASH f fingerprint, o nonce of the call, h what the client made of
--         the receipt, n accepted, d duplicates, x refused
--   3/4…  those of its marks, see marks.lua
--   …     six keys for each lane
-- ARGV.submissions… of each submission what described reads, and then what these names stand for:
--   BODY    the body (before it, MARKS are its marks)
--   NONCE   one of this call, so that it may be repeated
--   PRINT   the fingerprint, '' if it has no idempotency key: then it is known by its ID
--   HEAD    what the client wants back from the receipt
--   LASTS   how long the claim lasts, in ms
--   PASSED  the IDs of activities, joined, that are staged with the same ordering key and not decided about
--   TO      the recipients, packed: see sort_out; and then the activity's past, if it has one
-- RETURNS of each submission what look_around returns; {'mismatch'}; an error; else {'new' or 'known', what the client
--         wanted back, accepted, duplicates, refused}
local MARKS, BODY, NONCE, PRINT, HEAD, LASTS, PASSED, TO, SUBMISSION = 12, 13, 14, 15, 16, 17, 18, 19, 20
local lanes, answers, key = {}, {}, KEYS.submissions
local signed = {} -- by the hash of a key's name, how many more deliveries wait to be signed by it

-- stored returns the answer of a submission that is stored, for it is known by its claim or by its ID; nil of another.
local function stored(at, key, past)
  if ARGV[at + PRINT] ~= '' then
    local claim = redis.call('HMGET', KEYS[key + 2], 'f', 'o', 'h', 'n', 'd', 'x')
    if not claim[1] then return end
    if claim[1] ~= ARGV[at + PRINT] then return {'mismatch'} end
    return {claim[2] == ARGV[at + NONCE] and 'new' or 'known', claim[3], claim[4], claim[5], claim[6]}
  end
  local about = redis.call('HMGET', KEYS[key], 'n', 'y')
  if not about[1] then return end
  local duplicates, refused = 0, ''
  if about[2] then duplicates, refused = cmsgpack.unpack(about[2]) end
  return {past and 'known' or 'new', ARGV[at + HEAD], about[1], duplicates, refused}
end

-- remember sees to it that stored knows a submission.
local function remember(at, key, n, duplicates, refused)
  if ARGV[at + PRINT] ~= '' then
    redis.call('HSET', KEYS[key + 2], 'f', ARGV[at + PRINT], 'o', ARGV[at + NONCE], 'h', ARGV[at + HEAD], 'n', n, 'd', duplicates, 'x', refused)
    redis.call('PEXPIRE', KEYS[key + 2], ARGV[at + LASTS])
  elseif duplicates > 0 or refused ~= '' then
    redis.call('HSET', KEYS[key], 'y', cmsgpack.pack(duplicates, refused))
  end
end

-- enqueue stores the submission whose arguments begin at ARGV[at] and its keys at KEYS[key], those of its lanes at
-- KEYS[first].
local function enqueue(at, key, first, to, past)
  local answer = stored(at, key, past)
  if answer then return answer end
  local d = described(at, past)
  local other = look_around(d, ARGV[at + PASSED])
  if other then return other end

  local accepted, n, duplicates, refused = sort_out(to, function(i, host)
    lanes[host] = lanes[host] or (past and read or read_for_push)(first + 6 * i, host)
    return lanes[host]
  end, d, d.held)
  local refused_text = #refused > 0 and cjson.encode(refused) or ''
  if n == 0 and duplicates == 0 and not past then return {'new', '', 0, 0, refused_text} end

  local act = new_activity(key)
  describe(act, ARGV[at + BODY], d, 'p', '0', 'n', n)
  if past then keep_past(act, past) end
  push_all(act, accepted, lanes, d)
  if not past then note_object(d) end
  total('activities', 1)
  mark_activity(d, key, first - mark_keys(d.marks))
  total('pending', n)
  signed[d.key] = (signed[d.key] or 0) + n
  if past or n == 0 then enter_all() end
  if past then finish(act, past[5]) elseif n == 0 then finish(act) end
  remember(at, key, n, duplicates, refused_text)
  return {'new', ARGV[at + HEAD], n, duplicates, refused_text}
end

for at = ARGV.submissions, #ARGV, SUBMISSION do
  local to, past = cmsgpack.unpack(ARGV[at + TO])
  local first = key + (ARGV[at + PRINT] ~= '' and 3 or 2) + mark_keys(ARGV[at + MARKS])
  local ok, answer = pcall(enqueue, at, key, first, to, past)
  if not ok then -- it stumbled over a key of its own; the others don't
    answer = {err = answer.err or answer}
    for _, lane in ipairs(to) do lanes[lane[1]] = nil end
  end
  answers[#answers + 1] = answer
  key = first + 6 * #to
end
enter_all()
for name, n in pairs(signed) do signs(name, n) end
signal()
return answers
