#!lua flags=allow-oom
-- Makes a host one that never failed.
--
-- KEYS[FIRST…] the lane
-- ARGV[2]      the host
-- ARGV[3]      the record that was read
-- ARGV[4…5]    the new record, and what that says (see lane.lua, f)
-- RETURNS      the host's state if it turned, else ''; 'again' if the record has changed meanwhile
local l = read(FIRST, ARGV[2])
local s = l.state
if not l.known then return '' end
if l.record ~= ARGV[3] then return 'again' end
keep_record(l, ARGV[4])
s.f, s.g, s.w, s.o, s.y = tonumber(ARGV[5]), s.g + 1, 0, 0, 0
recover(l)
write(l)
signal()
return l.turned or ''
