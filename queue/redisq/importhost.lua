#!lua
-- Stores a host that another store knew.
--
-- KEYS[FIRST…] the lane
-- ARGV[2…5]    host, its record ('' for none), epoch, what the record says (see lane.lua, f)
-- ARGV[6…7]    what is left of its wait, and how long ago SeenPause began to count, in ms
-- ARGV[8]      how many probes Seen hastened since the last success
-- ARGV[9…10]   whether it is paused, whether it is blocked
-- RETURNS      1, or 0 if it is known already
local l = read(FIRST, ARGV[2])
if l.known then return 0 end
local s, wait = l.state, tonumber(ARGV[6])
if ARGV[3] ~= '' then keep_record(l, ARGV[3]) end
s.g, s.f, s.y = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[8])
s.p, s.b = tonumber(ARGV[9]), tonumber(ARGV[10])
if wait > 0 then s.w, s.o = now + wait, now - ARGV[7] end
write(l)
signal()
return 1
