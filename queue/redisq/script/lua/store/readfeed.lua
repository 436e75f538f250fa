#!lua flags=no-writes
-- Reads the feed of a partition.
--
-- USES lane(lag, now), feed(newest_entry)
-- ARGV.at    the ID of an entry, or '' for none
-- ARGV.most  how many entries after it at most or, if the next one says so, before it
-- ARGV.back  whether the newest come first
-- RETURNS    {the lag, now, time and number of the newest entry that there ever was, of each entry its ID and what it says}
local ms, n = newest_entry()
local entries, command, from, to = {}, 'XRANGE', '-', '+'
if ARGV.back == '1' then command, from, to = 'XREVRANGE', to, from end
if ARGV.at ~= '' then from = '(' .. ARGV.at end
if ARGV.most ~= '0' then
  for _, entry in ipairs(redis.call(command, FEED, from, to, 'COUNT', ARGV.most)) do
    entries[#entries + 1], entries[#entries + 2] = entry[1], entry[2][2]
  end
end
return {lag, now, ms, n, entries}
