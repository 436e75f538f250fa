#!lua flags=allow-oom
-- Keeps an order for another host that covers hosts of this partition, or drops it.
--
-- USES lane(order_of), covers(cover, new_order), place(signal)
-- ARGV.letter of the order: p or b
-- ARGV.host   the host that it was given for
-- ARGV.covers 1 if it is given, 0 if it ends
-- ARGV.lasts  how long it holds, in ms, 0: without end
-- ARGV.reason why
-- ARGV.by     by whom
-- ARGV.since  since when it holds in ms, if another store had it: then one that is there stays; else ''
-- RETURNS     1 if it was not there before
local packed = redis.call('HGET', COVERS, ARGV.letter .. ARGV.host)
local before = packed and order_of(ARGV.letter, ARGV.host, packed)
if ARGV.since ~= '' then
  if before then return 0 end
  before = {since = tonumber(ARGV.since)}
end
cover(ARGV.letter, ARGV.host, ARGV.covers == '1' and new_order(before, tonumber(ARGV.lasts), 1, ARGV.reason, ARGV.by) or nil)
signal()
return packed and 0 or 1
