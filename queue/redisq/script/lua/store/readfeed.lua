#!lua flags=no-writes
-- Reads the feed of a partition.
--
-- USES lane(lag, now), feed(newest_entry)
-- ARGV.after the ID of an entry
-- ARGV.most  how many entries after it at most
-- RETURNS    {the lag, now, time and number of the newest entry that there ever was, of each entry its ID and what it says}
local ms, n = newest_entry()
local entries = {}
if ARGV.most ~= '0' then
  for _, entry in ipairs(redis.call('XRANGE', FEED, '(' .. ARGV.after, '+', 'COUNT', ARGV.most)) do
    entries[#entries + 1], entries[#entries + 2] = entry[1], entry[2][2]
  end
end
return {lag, now, ms, n, entries}
