#!lua flags=no-writes
-- Looks for what an activity that deletes makes needless: in lanes that give nothing now.
--
-- KEYS[FIRST…] six keys for each lane
-- ARGV[2]      hash of the ordering key
-- ARGV[3]      where in the backlogs to begin
-- ARGV[4]      how much of the backlogs to look at
-- ARGV[5…]     the hosts
-- RETURNS      {whether there is more in a backlog, of each delivery found its activity, ordinal and host}
local ordering, first, most, answer = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), {0}

local function look(host, e)
  if e.ordering ~= ordering or not has(e, MAKES) or not untried(e) or has(e, TAKEN) then return end
  for _, part in ipairs({e.activity, e.ordinal, host}) do answer[#answer + 1] = part end
end

local function look_at_heads(l)
  for _, text in ipairs(redis.call('HVALS', l.h)) do
    if is_delivery(text) and string.find(text, ordering, 1, true) then look(l.host, unpack_delivery(0, text)) end
  end
  for _, text in ipairs(behind_of(l, ordering, 0, most)) do look(l.host, from_numbered(string.sub(text, #ordering + 1))) end
end

local function look_at_backlog(l)
  local priority = l.state.k > 0 and string.match(redis.call('HGET', l.c, ordering) or '', '^%d')
  if not priority then return end
  local texts = redis.call('LRANGE', l.q[tonumber(priority)], first, first + most - 1)
  for _, text in ipairs(texts) do
    if string.find(text, ordering, 1, true) then look(l.host, from_numbered(text)) end
  end
  if #texts == most then answer[1] = 1 end
end

for i = 5, #ARGV do
  local l = read_state(FIRST + 6 * (i - 5), ARGV[i])
  if silent(l.state) then
    if first == 0 then look_at_heads(l) end
    look_at_backlog(l)
  end
end
return answer
