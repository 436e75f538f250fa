#!lua
-- Stores submissions, each whole or not at all. It is for stores of one partition; others do it in steps, see stage.lua.
--
-- USES tombstones(note_object), place(total, signal), marks(mark_keys, mark_activity), activity(new_activity, signs, finish)
-- USES intake(look_around, describe, enter_all, described, read_for_push, sort_out, push_all, lanes_from, answer_known, remember)
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
--   TO      the recipients, packed: see sort_out
-- RETURNS of each submission what look_around returns; {'mismatch'}; an error; else {'new' or 'known', what the client
--         wanted back, accepted, duplicates, refused}
local lanes, answers, key = {}, {}, KEYS.submissions
local signed = {} -- by the hash of a key's name, how many more deliveries wait to be signed by it

-- enqueue stores the submission whose arguments begin at ARGV[at] and its keys at KEYS[key], those of its lanes at
-- KEYS[first].
local function enqueue(at, key, first, to)
  local answer = answer_known(at, key, 'new')
  if answer then return answer end
  local d = described(at)
  local other = look_around(d, ARGV[at + PASSED])
  if other then return other end

  local accepted, n, duplicates, refused = sort_out(to, function(i, host)
    lanes[host] = lanes[host] or read_for_push(first + 6 * i, host)
    return lanes[host]
  end, d, d.held)
  local refused_text = #refused > 0 and cjson.encode(refused) or ''
  if n == 0 and duplicates == 0 then return {'new', '', 0, 0, refused_text} end

  local act = new_activity(key)
  describe(act, ARGV[at + BODY], d, 'p', '0', 'n', n)
  push_all(act, accepted, lanes, d)
  note_object(d)
  total('activities', 1)
  mark_activity(d, key, first - mark_keys(d.marks))
  total('pending', n)
  signed[d.key] = (signed[d.key] or 0) + n
  if n == 0 then
    enter_all()
    finish(act)
  end
  remember(at, key, n, duplicates, refused_text)
  return {'new', ARGV[at + HEAD], n, duplicates, refused_text}
end

for at = ARGV.submissions, #ARGV, SUBMISSION do
  local to = cmsgpack.unpack(ARGV[at + TO])
  local first = lanes_from(at, key)
  local ok, answer = pcall(enqueue, at, key, first, to)
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
