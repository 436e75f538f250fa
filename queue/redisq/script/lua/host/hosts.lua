#!lua flags=no-writes
-- Looks at lanes.
--
-- USES lane(now, orders_for, state, end_throttle, read_lane, count_taken, oldest_pending)
-- KEYS.lanes… six keys for each lane
-- ARGV.hosts… the hosts
-- RETURNS     for each {record, epoch, state, pending, taken, when the oldest pending was accepted in ms or 0, until
--             when it waits in ms or 0, when its state last changed in ms or 0, orders}, false if it isn't known nor covered
--             by an order; each order is {p or b, its host, since when and until when it holds in ms (0: without end), whether
--             it covers others, why, by whom}
local function oldest(l)
  local ids = {}
  for _, e in pairs(l.window) do ids[#ids + 1] = e.id end
  return oldest_pending(l, ids)
end

local function orders(l)
  local all = {}
  for _, letter in ipairs({'p', 'b'}) do
    for _, o in ipairs(orders_for(l, letter)) do all[#all + 1] = {o.letter, o.host, o.since, o.ends, o.covers, o.reason, o.by} end
  end
  return all
end

local answer = {}
for i = ARGV.hosts, #ARGV do
  local l = read_lane(KEYS.lanes + 6 * (i - ARGV.hosts), ARGV[i])
  local s = l.state
  end_throttle(s)
  answer[#answer + 1] = (l.known or s.h > 0) and
    {l.record, s.g, state(s), s.n, count_taken(l), oldest(l), s.w > now and s.w or 0, s.c, orders(l)} or false
end
return answer
