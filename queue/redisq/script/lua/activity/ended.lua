#!lua flags=allow-oom
-- Returns how this partition's parts of activities are, for reports to their homes, and numbers these reports.
--
-- USES feed(last_entry), place(signal), activity(new_activity, counts, renew, standing)
-- KEYS.activities… a and r of each activity
-- ARGV.reopens     whether dead letters of them are about to be made pending: all are to be reported as not ended
-- ARGV.names…      IDs of the activities; else the names in ENDED of reports that are due
-- RETURNS          of each that is to be reported what standing returns
local reports, ms, n = {}, last_entry()
for i = ARGV.names, #ARGV do
  local act = new_activity(KEYS.activities + 2 * (i - ARGV.names))
  local pending = counts(act)
  if not act.report then
    redis.call('ZREM', ENDED, ARGV[i])
  elseif ARGV.reopens == '1' or redis.call('ZREM', ENDED, ARGV[i]) == 1 then
    renew(act, act.report < 0)
    reports[#reports + 1] = standing(act, pending == 0 and ARGV.reopens == '0', ms, n)
  end
end
signal()
return reports
