-- Functions that the scripts share which write the feed. It stands after lane.lua.
--
--   feed  STREAM: entries, the ID of each its time (ms, by the partition's clock, never before that of an earlier one) and a
--         number, its field e packed: its kind, and
--         host_state      host, state, name of the token that changed it, and where an order did: p or b, its host, since when
--                         and until when it holds (0: without end), whether it covers others, why, by whom
--         dead, delivered host, path, IDs of recipients, activity, ordinal, attempts, last attempt, URI and metadata, reason
--         activity_done   activity, how many deliveries, delivered, dead and cancelled, URI and metadata, and after which
--                         entries of other partitions it has to be listed: for each its number, ms and number of the entry
--         action          what the node says of it, as JSON
local FED_DELIVERED, FED_DEAD, FED_STATE, FED_DONE, FED_ACTION = 1, 2, 3, 4, 5

local FEED, ENDED = KEYS.feed, KEYS.ended

local fed = {entries = 0, told = 0} -- how many entries the script wrote, and of how many the nodes know

-- last_entry returns the time and the number of the newest entry that is there, 0 and 0 if there is none.
local function last_entry()
  local last = redis.pcall('XREVRANGE', FEED, '+', '-', 'COUNT', 1)[1]
  if not last then return 0, 0 end
  local ms, n = string.match(last[1], '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end

-- newest_entry returns the time and the number of the newest entry that there ever was, 0 and 0 if there was none.
local function newest_entry()
  local about = redis.pcall('XINFO', 'STREAM', FEED)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then
      local ms, n = string.match(about[i + 1], '^(%d+)-(%d+)$')
      return tonumber(ms), tonumber(n)
    end
  end
  return 0, 0
end

-- feed appends an entry. If something else has overwritten the key, the entry is lost, but nothing else is.
local function feed(...)
  local entry = cmsgpack.pack({...})
  local id = string.format('%.0f-*', now)
  local answer = redis.pcall('XADD', FEED, id, 'e', entry)
  if type(answer) == 'table' then -- the clock was set back a little
    answer = redis.pcall('XADD', FEED, string.format('%.0f-*', (newest_entry())), 'e', entry)
  end
  if type(answer) == 'table' then
    redis.log(redis.LOG_WARNING, 'postrider: an entry of ' .. FEED .. ' is lost: ' .. (answer.err or ''))
  else
    fed.entries = fed.entries + 1
  end
end

-- feed_action appends the entry of what somebody did; it has none if that is ''.
local function feed_action(said)
  if said ~= '' then feed(FED_ACTION, said) end
end

-- newly_fed returns how many entries were written since it was called last.
local function newly_fed()
  local n = fed.entries - fed.told
  fed.told = fed.entries
  return n
end
