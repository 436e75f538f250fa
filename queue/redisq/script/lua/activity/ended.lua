#!lua flags=allow-oom
-- Returns how this partition's parts of activities are, for reports to their homes, and numbers these reports.
--
-- USES feed(newest_entry), activity(new_activity, counts, renew, standing)
-- KEYS.activities… a and r of each activity
-- ARGV.reopens     whether dead letters of them are about to be made pending: all are to be reported as not ended
-- ARGV.ids…        IDs of the activities; else those of which a report is due
-- RETURNS          of each that is to be reported what standing returns
local reports, last = {}, {newest_entry()}
for i = ARGV.ids, #ARGV do
  local act = new_activity(KEYS.activities + 2 * (i - ARGV.ids))
  local pending = counts(act)
  if not act.report then
    redis.call('ZREM', ENDED, ARGV[i])
  elseif ARGV.reopens == '1' or redis.call('ZSCORE', ENDED, ARGV[i]) then
    renew(act, act.report < 0)
    reports[#reports + 1] = standing(act, pending == 0 and ARGV.reopens == '0', last)
  end
end
return reports
