-- What the scripts that take in what another store held share. It stands after intake.lua.
--
-- A moved delivery is described by {host, path, headers, ordinal, when it is due in ms (0: at once), flags, attempts, last
-- attempt, reason ('' if it is pending), when it died in ms}.

-- adopt puts a moved delivery into its lane, or among the dead letters. What has a time of its own or was tried goes into
-- the window, however full that is: nothing in a backlog has either. d is o, q, t and k of the activity.
local function adopt(act, l, e, item, d)
  e.due, e.flags, e.attempts, e.last = item[5], band(item[6], bnot(WAITS_KEY)), item[7], item[8]
  if item[9] ~= '' then return died(act, e, l.host, item[9], item[10]) end
  local s, fresh = l.state, item[5] == 0 and item[6] == 0 and item[7] == 0 and item[8] == ''
  -- Its number tells when it was accepted. It must not be in the future, which later ones would have to follow.
  e.id = math.max(s.i + 1, math.min(micros, (tonumber(d[3]) - EPOCH * 1000) * 1000))
  s.i, s.n, l.adopted = e.id, s.n + 1, true
  if s.k > 0 and (fresh or redis.call('HEXISTS', l.c, e.ordering) == 1) then return enter_backlog(l, e) end
  if l.heads[e.ordering] then return behind(l, e) end
  if fresh and l.size >= WINDOW then return enter_backlog(l, e) end
  if has({flags = item[6]}, WAITS_KEY) then park(l, e, d[4]) end
  put(l, e)
  set(l, e)
end

-- write_adopted writes a lane if any delivery was put into it.
local function write_adopted(l)
  if l.adopted then write(l) end
end
