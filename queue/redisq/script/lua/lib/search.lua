-- Functions that the scripts share which look for deliveries and show them. It stands after activity.lua.
local LOOKED_AT = 500
local ANSWERED, BEHIND, UNSIGNED, HELD, RETRIED, READY = 0, 1, 2, 3, 4, 5 -- positions in queue.WaitsFor

-- is_behind reports whether a delivery is behind another of its chain. where is as for search. Of several that a chain has in
-- the backlog it says so of the first, too.
local function is_behind(l, e, where)
  if where == 'behind' or where == 'window' then return where == 'behind' end
  local _, waiting = backlog_of(l, e.chain)
  return l.heads[e.chain] ~= nil or (waiting or 1) > 1
end

-- due_at returns when a delivery may be attempted, 0 if that is not known.
local function due_at(l, e, where)
  if has(e, WAITS_KEY) or is_behind(l, e, where) then return 0 end
  if band(l.state.f, PROBING) > 0 then return math.max(l.state.w, created_at(e)) end
  return math.max(l.state.w, due(e))
end

-- waits_for returns what a delivery waits for.
local function waits_for(l, e, where)
  local s = l.state
  local probing = band(s.f, PROBING) > 0
  if has(e, TAKEN) then return ANSWERED end
  if is_behind(l, e, where) then return BEHIND end
  if has(e, WAITS_KEY) then return UNSIGNED end
  if is_paused(s) or is_blocked(s) or s.w > now and (probing or s.w >= due(e)) then return HELD end
  if due(e) > now and not probing then return RETRIED end
  return READY
end

-- chain_of returns the chain of an ordering key and an inbox, each given by its hash.
local function chain_of(ordering, inbox)
  return struct.pack('>I6', (struct.unpack('>I6', ordering) + struct.unpack('>I6', inbox)) % 2 ^ 48)
end

-- own_chain returns the chain of a delivery of an activity.
local function own_chain(act, inbox)
  act.ordering = act.ordering or field(act, 'o')
  return chain_of(act.ordering, inbox)
end

-- search calls found(delivery, where, text) for those deliveries of an activity in a lane that are wanted (chains by
-- ordinals): where is 'window', 'behind' or the priority of a backlog, text what is stored there.
local function search(l, id, wanted, found)
  local missing, chains, backlogs = 0, {}, {}
  for _, chain in pairs(wanted) do missing, chains[chain] = missing + 1, true end
  local function look(e, where, text)
    if e.activity ~= id or not wanted[e.ordinal] then return end
    missing = missing - 1
    found(e, where, text)
  end
  local function pages(read_page, prefix, where)
    local at = 0
    while missing > 0 do
      local page = read_page(at)
      for _, text in ipairs(page) do look(from_numbered(string.sub(text, prefix + 1)), where, text) end
      if #page < LOOKED_AT then return end
      at = at + LOOKED_AT
    end
  end
  local heads, someone_waits = {}, waits_behind(l)
  for _, e in pairs(l.window) do heads[#heads + 1] = e end
  for _, e in ipairs(heads) do look(e, 'window') end
  for chain in pairs(chains) do
    if someone_waits then pages(function(at) return behind_of(l, chain, at, LOOKED_AT) end, #chain, 'behind') end
    backlogs[backlog_of(l, chain) or 3] = true
  end
  for priority = 0, 2 do
    if backlogs[priority] then
      pages(function(at) return redis.call('LRANGE', l.q[priority], at, at + LOOKED_AT - 1) end, 0, priority)
    end
  end
end

-- wanted_of reads what is wanted of a lane in ARGV from a place on: host, how many, of each its ordinal and the hash of its
-- inbox. It returns the host, the chains by ordinals, and the place after it.
local function wanted_of(act, at)
  local wanted, last = {}, at + 2 * ARGV[at + 1]
  for i = at + 2, last, 2 do wanted[tonumber(ARGV[i])] = own_chain(act, ARGV[i + 1]) end
  return ARGV[at], wanted, last + 2
end
