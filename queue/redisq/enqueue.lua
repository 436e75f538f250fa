#!lua
-- Stores submissions, each whole or not at all. It is for stores of one partition; others do it in steps, see stage.lua.
--
-- KEYS[FIRST…] of each submission:
--   1…3   the activity's a, b and r
--   4     the claim of its idempotency key: HASH f fingerprint, o nonce of the call, h what the client made of the
--         receipt, n accepted, d duplicates, x refused, c cancelled
--   5…    the r of other activities of the same URI, then six keys for each lane
-- ARGV[2…] of each submission:
--   1…8   ID, description, hash of the URI, ordering key and key ID, priority, TTL in ms, whether it makes what its
--         ordering key names
--   9     the body
--   10    a nonce of this call, so that it may be repeated
--   11    the fingerprint
--   12    what the client wants back from the receipt
--   13    how long the claim lasts, in ms
--   14    the IDs of the other activities, joined
--   15    the IDs of activities, joined, that are staged with the same ordering key and not decided about
--   16    the recipients, packed: see sort_out
-- RETURNS of each submission {'again', IDs} if these are the other activities really; {'staged', ID} if one of them is not
--         decided about yet; {'behind', IDs} if these are staged; {'mismatch'}; an error; else {'new' or 'known', what the
--         client wanted back, accepted, duplicates, refused, cancelled}
local lanes, answers, key = {}, {}, FIRST

-- enqueue stores the submission whose arguments begin at ARGV[at] and its keys at KEYS[key].
local function enqueue(at, key, to)
  local claim = redis.call('HMGET', KEYS[key + 3], 'f', 'o', 'h', 'n', 'd', 'x', 'c')
  if claim[1] then
    if claim[1] ~= ARGV[at + 10] then return {'mismatch'} end
    return {claim[2] == ARGV[at + 9] and 'new' or 'known', claim[3], claim[4], claim[5], claim[6], claim[7] or 0}
  end
  local d = described(at)
  local known, on_their_way = look_around(d)
  if known ~= ARGV[at + 13] then return {'again', known} end
  local staged = undecided(known)
  if staged then return {'staged', staged} end
  local before = to_stand_behind(on_their_way, ARGV[at + 14])
  if before then return {'behind', before} end

  local others = {}
  for i = 1, #known / 16 do others[i] = key + 3 + i end
  local accepted, n, duplicates, refused = sort_out(to, function(i, host)
    lanes[host] = lanes[host] or read_for_push(key + 4 + #others + 6 * i, host)
    return lanes[host]
  end, d.priority, pending_inboxes(others))
  local refused_text = #refused > 0 and cjson.encode(refused) or ''
  if n == 0 and duplicates == 0 then return {'new', '', 0, 0, refused_text, 0} end

  local act = new_activity(key)
  describe(act, ARGV[at + 8], d, known, 'p', '0', 'n', n)
  push_all(act, accepted, lanes, d)
  total('activities', 1)
  total('pending', n)
  if n == 0 then finish(act) end
  redis.call('HSET', KEYS[key + 3], 'f', ARGV[at + 10], 'o', ARGV[at + 9], 'h', ARGV[at + 11], 'n', n, 'd', duplicates, 'x', refused_text)
  redis.call('PEXPIRE', KEYS[key + 3], ARGV[at + 12])
  return {'new', ARGV[at + 11], n, duplicates, refused_text, 0}
end

for at = 2, #ARGV, 16 do
  local to = cmsgpack.unpack(ARGV[at + 15])
  local ok, answer = pcall(enqueue, at, key, to)
  if not ok then -- it stumbled over a key of its own; the others don't
    answer = {err = answer.err or answer}
    for _, lane in ipairs(to) do lanes[lane[1]] = nil end
  end
  answers[#answers + 1] = answer
  key = key + 4 + #ARGV[at + 13] / 16 + 6 * #to
end
signal()
return answers
