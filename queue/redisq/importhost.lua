-- Stores a host that another store knew.
--
-- KEYS[18…23]  the lane
-- ARGV[2…5]    host, its record ('' for none), epoch, what the record says (see lane.lua, f)
-- ARGV[6]      what is left of its wait, in ms
-- ARGV[7…8]    whether it is paused, whether it is blocked
-- RETURNS      1, or 0 if it is known already
local l = read(18, ARGV[2])
if l.known then return 0 end
local s, wait = l.state, tonumber(ARGV[6])
if ARGV[3] ~= '' then redis.call('HSET', l.h, 'r', ARGV[3]) end
s.g, s.f, s.p, s.b = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[7]), tonumber(ARGV[8])
if wait > 0 then s.w = now + wait end
write(l)
return 1
