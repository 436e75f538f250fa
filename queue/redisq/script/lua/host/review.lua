#!lua flags=allow-oom
-- Looks at lanes after orders that cover hosts have changed: see covers.lua.
--
-- USES lane(end_throttle, new_lane, open_state, read_lane), feed(newly_fed), place(write, signal)
-- KEYS.lanes… six keys for each lane
-- ARGV.mark   how far the review is, as it was read
-- ARGV.next   and as it is to be after this, '' if these are the last lanes
-- ARGV.hosts… the hosts
-- RETURNS     how many entries were written to the feed
for i = ARGV.hosts, #ARGV do
  local at = KEYS.lanes + 6 * (i - ARGV.hosts)
  local l = new_lane(at, ARGV[i])
  local packed = redis.pcall('HGET', l.h, 's')
  if type(packed) == 'string' then -- else it is not known, or something else has written its key
    open_state(l, packed)
    if l.was_covered or l.state.h > 0 then
      l = read_lane(at, ARGV[i])
      end_throttle(l.state)
      write(l)
    end
  end
end
if redis.call('GET', REVIEW) == ARGV.mark then
  if ARGV.next == '' then redis.call('DEL', REVIEW) else redis.call('SET', REVIEW, ARGV.next) end
end
signal()
return newly_fed()
