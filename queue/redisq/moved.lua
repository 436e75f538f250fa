-- What the scripts that take in what another store held share. It stands after intake.lua.
--
-- A moved delivery is described by {host, path, headers, ordinal, when it is due in ms (0: at once), flags, attempts, last
-- attempt, reason ('' if it is pending), when it died in ms}.

-- adopt puts a moved delivery into its lane, or among the dead letters. What has a time of its own or was tried goes into
-- the window, however full that is: nothing in a backlog has either. created is when the activity was accepted, key the
-- hash of its key's ID.
local function adopt(act, l, e, item, created, key)
  e.due, e.flags, e.attempts, e.last = item[5], bor(e.flags, band(item[6], bnot(WAITS_KEY))), item[7], item[8]
  local s, fresh = l.state, item[5] == 0 and item[6] == 0 and item[7] == 0 and item[8] == ''
  -- Its number tells when it was accepted, also if it died and is retried. It must not be in the future, which later
  -- ones would have to follow. Dead letters make no lane.
  if l.known or item[9] == '' then
    e.id = math.max(s.i + 1, math.min(micros, (tonumber(created) - EPOCH * 1000) * 1000))
    s.i, l.adopted = e.id, true
  end
  if item[9] ~= '' then return died(act, e, l.host, item[9], item[10]) end
  s.n, l.changed = s.n + 1, true
  if s.k > 0 and (fresh or redis.call('HEXISTS', l.c, e.ordering) == 1) then return enter_backlog(l, e) end
  if l.heads[e.ordering] then return behind(l, e) end
  if fresh and l.size >= WINDOW then return enter_backlog(l, e) end
  if has({flags = item[6]}, WAITS_KEY) then park(l, e, key) end
  put(l, e)
  set(l, e)
end

-- write_adopted writes a lane if any delivery came to it.
local function write_adopted(l)
  if l.adopted then write(l) end
end
