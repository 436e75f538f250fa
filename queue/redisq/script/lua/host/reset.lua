#!lua flags=allow-oom
-- Makes a host one that never failed.
--
-- USES lane(now, read_lane, keep_record, recover), feed(feed_action, newly_fed), place(write, signal)
-- KEYS.lane×6 the lane
-- ARGV.host   the host
-- ARGV.known  the record that was read
-- ARGV.record the new record
-- ARGV.says   what that says (see lane.lua, f)
-- ARGV.by     the name of the token that asked for it
-- ARGV.differs whether the new record says anything else than the one that was read
-- ARGV.said   the entry of the feed, if this changes anything; '' if there is to be none
-- RETURNS     how many entries were written to the feed; -1 if the record has changed meanwhile
local l = read_lane(KEYS.lane, ARGV.host)
local s = l.state
if not l.known then return 0 end
if l.record ~= ARGV.known then return -1 end
local waits = s.w > now
keep_record(l, ARGV.record)
s.f, s.g, s.w, s.o, s.y = tonumber(ARGV.says), s.g + 1, 0, 0, 0
recover(l)
if waits or ARGV.differs == '1' or next(l.dirty) then feed_action(ARGV.said) end
l.by = ARGV.by
write(l)
signal()
return newly_fed()
