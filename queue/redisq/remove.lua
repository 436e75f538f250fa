-- Takes deliveries of an activity out of their lanes, wherever they are: cancelled, or dead letters.
--
-- KEYS[18…20]  the activity's a, b and r
-- KEYS[21…]    six keys for each lane
-- ARGV[2]      the activity's ID
-- ARGV[3]      '' to cancel, else the reason of the dead letters; what is taken just now stays then
-- ARGV[4]      the reason of those that wait for their key
-- ARGV[5…]     of each lane: host, how many deliveries, their ordinals
-- RETURNS      how many were taken out
local RETRY = 1000 -- in how many ms to look again at what was taken as it expired
local act, removed = new_activity(18), 0
local ordering = field(act, 'o')
if not ordering then return 0 end

local function take_out(l, e, where, text)
  if where == 'window' then return drop(l, e) end
  if where == 'behind' then
    redis.call('ZREM', l.w, text)
  else
    redis.call('LREM', l.q[where], 1, text)
    leave_backlog(l, e.ordering)
  end
  l.state.n = l.state.n - 1
end

local function remove(l, f)
  local e = f.e
  local reason = has(e, WAITS_KEY) and ARGV[4] or ARGV[3]
  take_out(l, e, f.where, f.text)
  if ARGV[3] == '' then cancelled(act, e.ordinal) else died(act, e, l.host, reason) end
  removed = removed + 1
end

-- lost takes out what pends by the activity's list, but is not in its lane: somebody has deleted that.
local function lost(host, ordinal)
  local inbox = redis.call('LINDEX', act.r, ordinal) or ''
  if inbox == '' or string.sub(inbox, 1, 1) == '!' then return end
  local e = {activity = ARGV[2], ordinal = ordinal, rest = string.sub(inbox, #host + 1), headers = '', attempts = 0, last = ''}
  if ARGV[3] == '' then cancelled(act, ordinal) else died(act, e, host, ARGV[3]) end
  removed = removed + 1
end

local staged = redis.call('ZSCORE', STAGED, ARGV[2])
local at, keys = 5, 21
while ARGV[at] do
  local host, wanted
  host, wanted, at = wanted_of(at)
  local l, found = read(keys, host), {}
  search(l, ARGV[2], ordering, wanted, function(e, where, text)
    wanted[e.ordinal] = nil
    if ARGV[3] == '' or not has(e, TAKEN) then found[#found + 1] = {e = e, where = where, text = text} end
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
if ARGV[3] ~= '' and counts(act) > 0 then redis.call('ZADD', EXPIRES, now + RETRY, ARGV[2]) end
signal()
return removed
