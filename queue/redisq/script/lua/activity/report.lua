#!lua flags=allow-oom
-- Tells activities, in their home partition, how other partitions' parts of them are. Where all have ended, the feed says so.
--
-- USES feed(newly_fed), place(signal), activity(new_activity, look_up, reports_of, conclude)
-- KEYS.activities… a and r of the activity of each report
-- ARGV.reports…    of each report the number of its partition and what standing returned, but for the ID
-- RETURNS          how many entries were written to the feed
local PARTS = 10

-- take keeps a report. It returns nothing if that says no more than is known.
local function take(act, at)
  local reports, name, n, has_ended = reports_of(act), ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 3] == '1'
  local known = reports[name]
  if known and known[1] >= n then return end
  local report, same = {n}, has_ended and known and known[2]
  for i = 2, has_ended and 7 or 1 do
    report[i] = tonumber(ARGV[at + 2 + i])
    same = same and (i > 5 or known[i] == report[i])
  end
  reports[name] = report
  redis.call('HSET', act.a, 'j', cmsgpack.pack(reports))
  return has_ended and not same and ARGV[at + 2] == '1'
end

for i = ARGV.reports, #ARGV, PARTS do
  local act = look_up(new_activity(KEYS.activities + 2 * (i - ARGV.reports) / PARTS))
  if act.is_home and take(act, i) then conclude(act) end
end
signal()
return newly_fed()
