-- Functions that the scripts share which take in what another store held. It stands after intake.lua.
--
-- An activity that another store held comes with its past: {when it was accepted, how many of its deliveries were delivered, died
-- and were cancelled besides those that come, when it was finished, when those that were revived expire (negative if there are
-- none)}. So does each of its deliveries: {when it is due (0: since it was accepted), flags, attempts, last attempt, reason
-- ('' if it is pending), when it died (negative if it did not)}. All times are in ms.

-- keep_past has the home of an activity count those of its deliveries that do not come.
local function keep_past(act, past)
  for i, name in ipairs({'d', 'x', 'c'}) do
    local n = past[i + 1]
    if n > 0 then
      redis.call('HINCRBY', act.a, name, n)
      redis.call('HINCRBY', act.a, 'n', n)
    end
  end
end

-- adopt puts a delivery with a past into its lane, or among the dead letters. One that has a time of its own or was tried goes into
-- the window, however full that is: nothing in a backlog has either. d describes the activity.
local function adopt(act, l, e, past, d)
  local reason = past[5]
  e.due, e.flags, e.attempts, e.last = past[1], band(past[2], bnot(WAITS_KEY)), past[3], past[4]
  local s, fresh = l.state, e.due == 0 and past[2] == 0 and e.attempts == 0 and e.last == ''
  -- Its number tells when it was accepted, also if it died and is retried. It must not be in the future, which later
  -- ones would have to follow. Dead letters make no lane.
  if l.known or reason == '' then
    e.id = math.max(s.i + 1, math.min(micros, (d.created - EPOCH * 1000) * 1000))
    s.i, l.changed = e.id, true
    if e.due == 0 and created_at(e) > d.created + 1000 then e.due = d.created end -- the lane had later ones
  end
  if reason ~= '' then return died(act, e, l.host, reason, past[6]) end
  s.n = s.n + 1
  if s.k > 0 and (fresh or redis.call('HEXISTS', l.c, e.chain) == 1) then return enter_backlog(l, e) end
  if l.heads[e.chain] then return behind(l, e) end
  if fresh and l.size >= WINDOW then return enter_backlog(l, e) end
  if has({flags = past[2]}, WAITS_KEY) then park(l, e, d.key) end
  put(l, e)
  change(l, e)
end

-- adopt_all is push_all for deliveries with a past. Their lanes must have been read whole.
local function adopt_all(act, accepted, lanes, d)
  local ordinal = list_accepted(act, accepted)
  for _, lane in ipairs(accepted) do
    local l, items, pasts = lanes[lane[1]], lane[2], lane[3]
    for j = 1, #items, 3 do
      adopt(act, l, new_delivery(d, ordinal, (split_listed(items[j])), items[j + 1], items[j + 2]), pasts[(j + 2) / 3], d)
      ordinal = ordinal + 1
    end
    if l.changed then write(l) end
    l.changed = false
  end
end
