#!lua
-- Stores a host that another store knew.
--
-- USES lane(now, apply_orders, end_throttle, read_lane, keep_record), covers(new_order), place(write, signal)
-- KEYS.lane×6   the lane
-- ARGV.host     the host
-- ARGV.record   its record, '' for none
-- ARGV.epoch    and that record's epoch
-- ARGV.says     what the record says (see lane.lua, f)
-- ARGV.wait     what is left of its wait, in ms
-- ARGV.since    how long ago SeenPause began to count, in ms
-- ARGV.hastened how many probes Seen hastened since the last success
-- ARGV.changed  when its state last changed, 0 if it never did
-- ARGV.orders…  its own orders: of each its letter, since when it holds in ms, how long in ms (0: without end), whether it covers
--               others, why, by whom
-- RETURNS       1, or 0 if it is known already
local l = read_lane(KEYS.lane, ARGV.host)
if l.known then return 0 end
l.imported = true
local s, wait = l.state, tonumber(ARGV.wait)
if ARGV.record ~= '' then keep_record(l, ARGV.record) end
s.g, s.f, s.y = tonumber(ARGV.epoch), tonumber(ARGV.says), tonumber(ARGV.hastened)
s.c = tonumber(ARGV.changed)
for i = ARGV.orders, #ARGV, 6 do
  local letter, since, lasts, covers, reason, by = unpack(ARGV, i, i + 5)
  local packed, ends = new_order({since = tonumber(since)}, tonumber(lasts), tonumber(covers), reason, by)
  redis.call('HSET', l.h, letter, packed)
  s[letter] = ends > 0 and ends or 1
end
apply_orders(l)
if wait > 0 then s.w = now + wait end
s.o = now - ARGV.since -- also where it does not wait: since then nothing happened to it
end_throttle(s)
write(l)
signal()
return 1
