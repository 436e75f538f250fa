#!lua flags=no-writes
-- Looks at lanes in full, a page of each at a time.
--
-- USES lane(now, band, from_numbered, orders_for, read_lane)
-- KEYS.lanes… six keys for each lane
-- ARGV.page   the page: 'window', 'behind' or the priority of a backlog
-- ARGV.first  where it begins: 0 for the window, which is one page
-- ARGV.length how long it is
-- ARGV.hosts… the hosts
-- RETURNS     for each lane {the deliveries of the page of which there is more to tell than where they go, record, epoch,
--             its own orders (each {letter, since when, how long yet in ms (0: without end), whether it covers others, why,
--             by whom}), what is left of its wait and how long ago that began in ms, how
--             many probes Seen hastened, when its state last changed, how many deliveries are not in the window}; each
--             delivery is {activity, ordinal, when it is due in ms, flags, attempts, headers, last attempt}
local first, last = tonumber(ARGV.first), ARGV.first + ARGV.length - 1

local function page(l)
  if ARGV.page == 'window' then
    local all = {}
    for _, e in pairs(l.window) do all[#all + 1] = e end
    return all
  end
  local texts, prefix, all = nil, 0, {}
  if ARGV.page == 'behind' then
    texts, prefix = redis.call('ZRANGE', l.w, first, last), 6 -- a chain has six bytes
  else
    texts = redis.call('LRANGE', l.q[tonumber(ARGV.page)], first, last)
  end
  for i, text in ipairs(texts) do all[i] = from_numbered(string.sub(text, prefix + 1)) end
  return all
end

local answer = {}
for i = ARGV.hosts, #ARGV do
  local l = read_lane(KEYS.lanes + 6 * (i - ARGV.hosts), ARGV[i])
  local s, told = l.state, {}
  for _, e in ipairs(page(l)) do
    local flags = band(e.flags, HOST_FAILED + WAITS_KEY + REVIVED)
    if e.due > 0 or flags > 0 or e.attempts > 0 or e.headers ~= '' or e.last ~= '' then
      told[#told + 1] = {e.activity, e.ordinal, e.due, flags, e.attempts, e.headers, e.last}
    end
  end
  local own = {}
  for _, letter in ipairs({'p', 'b'}) do
    local o = s[letter] > 0 and orders_for(l, letter)[1]
    if o then own[#own + 1] = {letter, o.since, o.ends > 0 and o.ends - now or 0, o.covers, o.reason, o.by} end
  end
  local wait = math.max(0, s.w - now)
  answer[#answer + 1] = {told, l.record, s.g, own, wait, wait > 0 and now - s.o or 0, s.y, s.c, s.n - l.size}
end
return answer
