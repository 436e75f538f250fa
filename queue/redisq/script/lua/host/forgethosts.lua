#!lua flags=allow-oom
-- Forgets hosts that never answered, have nothing pending, and to which nothing happened for long.
--
-- USES pages(exclude), lane(HOSTS, now, band, created_at, is_paused, is_blocked, answer_kind, new_lane, open_state), feed(feed, newly_fed)
-- USES place(total, signal)
-- KEYS.lanes… six keys for each lane
-- ARGV.unused for how long, in ms
-- ARGV.hosts… the hosts
-- RETURNS     {how many were forgotten, how many entries were written to the feed}
local forgotten = 0

-- happened_at returns when something last happened to a lane, or is to: when a delivery was accepted, when a wait began or ends,
-- when a lease ends.
local function happened_at(s) return math.max(created_at({id = s.i}), s.o, s.w, s.x) end

local function forget(l)
  total(l.label, -1)
  exclude(HOSTS, string.sub(l.label, 1, 1) .. l.host)
  if l.state.v > 0 then redis.call('ZREM', EXCESS, l.host) end
  redis.call('DEL', l.h, l.c, l.w, l.q[0], l.q[1], l.q[2])
  forgotten = forgotten + 1
  if l.label ~= 'healthy' then feed(FED_STATE, l.host, 'healthy') end -- as any host is that is not known
end

for i = ARGV.hosts, #ARGV do
  local l = new_lane(KEYS.lanes + 6 * (i - ARGV.hosts), ARGV[i])
  local packed = redis.pcall('HGET', l.h, 's')
  if type(packed) == 'string' then -- else it is not known, or something else has written its key
    local s = open_state(l, packed).state
    local reached = answer_kind(s) > 0 or band(s.f, GOOD) > 0
    if s.n == 0 and not is_paused(s) and not is_blocked(s) and not reached and happened_at(s) + ARGV.unused <= now then forget(l) end
  end
end
signal()
return {forgotten, newly_fed()}
