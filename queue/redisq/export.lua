#!lua flags=no-writes
-- Looks at lanes in full, a page of each at a time.
--
-- KEYS[FIRST…] six keys for each lane
-- ARGV[2]      the page: 'window', 'behind' or the priority of a backlog
-- ARGV[3]      where it begins: 0 for the window, which is one page
-- ARGV[4]      how long it is
-- ARGV[5…]     the hosts
-- RETURNS      for each lane {record, epoch, whether it is paused, whether it is blocked, what is left of its wait and how
--              long ago that began in ms, how many probes Seen hastened, how many deliveries are not in the window, the
--              deliveries of the page of which there is more to tell than where they go}; each delivery is {activity,
--              ordinal, when it is due in ms, flags, attempts, headers, last attempt}
local first, last = tonumber(ARGV[3]), ARGV[3] + ARGV[4] - 1

local function page(l)
  if ARGV[2] == 'window' then
    local all = {}
    for _, e in pairs(l.window) do all[#all + 1] = e end
    return all
  end
  local texts, prefix, all = nil, 0, {}
  if ARGV[2] == 'behind' then
    texts, prefix = redis.call('ZRANGE', l.w, first, last), 6 -- an ordering key has six bytes
  else
    texts = redis.call('LRANGE', l.q[tonumber(ARGV[2])], first, last)
  end
  for i, text in ipairs(texts) do all[i] = from_numbered(string.sub(text, prefix + 1)) end
  return all
end

local answer = {}
for i = 5, #ARGV do
  local l = read(FIRST + 6 * (i - 5), ARGV[i])
  local s, told = l.state, {}
  for _, e in ipairs(page(l)) do
    local flags = band(e.flags, bnot(TAKEN + MAKES)) -- what it makes is the activity's
    if e.due > 0 or flags > 0 or e.attempts > 0 or e.headers ~= '' or e.last ~= '' then
      told[#told + 1] = {e.activity, e.ordinal, e.due, flags, e.attempts, e.headers, e.last}
    end
  end
  local wait = math.max(0, s.w - now)
  answer[i - 4] = {l.record, s.g, s.p, s.b, wait, wait > 0 and now - s.o or 0, s.y, s.n - l.size, told}
end
return answer
