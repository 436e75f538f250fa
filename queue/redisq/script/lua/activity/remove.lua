#!lua flags=allow-oom
-- Takes deliveries of an activity out of their lanes, wherever they are.
--
-- USES lane(now, has, read_lane), feed(newly_fed), backlog(take_out), place(write, signal)
-- USES activity(new_activity, counts, newly_owed, finish, split_listed, cancelled, died), search(search, wanted_of)
-- KEYS.activity×2 the activity's a and r
-- KEYS.lanes…     six keys for each lane
-- ARGV.id         the activity's ID
-- ARGV.how        'cancel'; 'expire' to make dead letters of what has outlived its TTL, unless it is taken just now
-- ARGV.lanes…     of each lane: host, how many deliveries, ordinal of each and hash of its inbox
-- RETURNS         {how many were taken out, how many entries were written to the feed, reports: see newly_owed}
local act, how, removed, left = new_activity(KEYS.activity), ARGV.how, 0, false
local about = redis.call('HMGET', act.a, 'e', 'v')
local expires, revived_expire = tonumber(about[1] or 0), tonumber(about[2] or 0)
if not about[1] then return {0, 0, {}} end

local function may_go(l, e)
  if how == 'cancel' then return true end
  if (has(e, REVIVED) and revived_expire or expires) > now then return false end
  left = left or has(e, TAKEN)
  return not has(e, TAKEN)
end

local function remove(l, f)
  local e, reason = f.e, has(f.e, WAITS_KEY) and 'key_missing' or 'expired'
  take_out(l, e, f.where, f.text)
  if how == 'expire' then died(act, e, l.host, reason) else cancelled(act, e.ordinal) end
  removed = removed + 1
end

-- lost takes out what pends by the activity's list, but is not in its lane: somebody has deleted that.
local function lost(host, ordinal)
  local inbox = split_listed(redis.call('LINDEX', act.r, ordinal) or '')
  if inbox == '' or string.sub(inbox, 1, 1) == '!' then return end
  if how == 'expire' and math.max(expires, revived_expire) > now then return end
  local e = {activity = ARGV.id, ordinal = ordinal, rest = string.sub(inbox, #host + 1), headers = '', attempts = 0, last = ''}
  if how == 'expire' then died(act, e, host, 'expired') else cancelled(act, ordinal) end
  removed = removed + 1
end

-- expire_again says when to look at the activity again: soon if something was taken, else when more expires.
local function expire_again()
  if counts(act) == 0 then return end
  local at = now + RETRY
  if not left then
    local next_ones = {tonumber(redis.call('ZSCORE', EXPIRES, ARGV.id)), expires, revived_expire}
    for i = 1, 3 do
      if not next_ones[i] or next_ones[i] <= now then next_ones[i] = math.huge end
    end
    local first = math.min(unpack(next_ones))
    if first < math.huge then at = first end
  end
  redis.call('ZADD', EXPIRES, at, ARGV.id)
end

local staged = redis.call('ZSCORE', STAGED, ARGV.id)
local at, keys = ARGV.lanes, KEYS.lanes
while ARGV[at] do
  local host, wanted
  host, wanted, at = wanted_of(act, at)
  local l, found = read_lane(keys, host), {}
  search(l, ARGV.id, wanted, function(e, where, text)
    wanted[e.ordinal] = nil
    if may_go(l, e) then found[#found + 1] = {e = e, where = where, text = text} end
  end)
  -- From the back, as those behind would otherwise move up when the one before them goes.
  for i = #found, 1, -1 do remove(l, found[i]) end
  if #found > 0 then write(l) end
  if not staged then
    for ordinal in pairs(wanted) do lost(host, ordinal) end
  end
  keys = keys + 6
end
if removed > 0 then finish(act) end
if how == 'expire' then expire_again() end
signal()
return {removed, newly_fed(), newly_owed()}
