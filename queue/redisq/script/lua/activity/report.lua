#!lua flags=allow-oom
-- Tells activities, in their home partition, how other partitions' parts of them are. Where all have ended, the feed says so.
--
-- USES feed(newly_fed), activity(activities, new_activity, conclude)
-- KEYS.activities… a and r of the activity of each report
-- ARGV.reports…    of each report the number of its partition, that of the report, and what standing packed
-- RETURNS          how many entries were written to the feed
local PARTS, NUMBER = 3, 9

-- read_home reads what conclude wants to know of an activity, once. It has no reports if this is not its home.
local function read_home(act)
  if act.counts then return act end
  local about = redis.call('HMGET', act.a, 'g', 'i', 'n', 'd', 'x', 'c', 'p', 'j')
  act.id, act.counts = about[2], {n = tonumber(about[3]), d = tonumber(about[4]) or 0, x = tonumber(about[5]) or 0, c = tonumber(about[6]) or 0}
  if about[1] == 'h' then act.parts, act.reports = about[7] or '', about[8] and cmsgpack.unpack(about[8]) or {} end
  return act
end

-- take keeps a report. It returns nothing if that says no more than is known.
local function take(act, at)
  local known, report = act.reports[ARGV[at]], cmsgpack.unpack(ARGV[at + 2])
  report[NUMBER] = tonumber(ARGV[at + 1])
  if known and known[NUMBER] >= report[NUMBER] then return end
  local same = known
  for i = 1, 5 do same = same and known[i] == report[i] end
  act.reports[ARGV[at]], act.reported = report, true
  return report[1] and not same and report[8]
end

for i = ARGV.reports, #ARGV, PARTS do
  local act = read_home(new_activity(KEYS.activities + 2 * (i - ARGV.reports) / PARTS))
  if act.reports and take(act, i) then act.touched = true end
end
for _, act in pairs(activities) do
  if act.reported then redis.call('HSET', act.a, 'j', cmsgpack.pack(act.reports)) end
  if act.touched then conclude(act) end
end
return newly_fed()
