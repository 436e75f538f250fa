#!lua flags=allow-oom
-- Forgets that reports on activities were due, as they were made.
--
-- USES lane(number), activity(new_activity, field)
-- KEYS.activities… a and r of each activity
-- ARGV.reports…    of each its ID and the number of the report
-- RETURNS          1
for i = ARGV.reports, #ARGV, 2 do
  local number = field(new_activity(KEYS.activities + i - ARGV.reports), 'g') or 0
  if math.abs(number) == tonumber(ARGV[i + 1]) then redis.call('ZREM', ENDED, ARGV[i]) end
end
return 1
