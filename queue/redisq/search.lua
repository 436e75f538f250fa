-- What the scripts that look for an activity's deliveries share. It stands after activity.lua.
local LOOKED_AT = 500

-- search calls found(delivery, where, text) for those deliveries of an activity in a lane that are wanted (a set of
-- ordinals): where is 'window', 'behind' or the priority of a backlog, text what is stored there.
local function search(l, id, ordering, wanted, found)
  local missing = 0
  for _ in pairs(wanted) do missing = missing + 1 end
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
  local heads = {}
  for _, e in pairs(l.window) do heads[#heads + 1] = e end
  for _, e in ipairs(heads) do look(e, 'window') end
  pages(function(at) return behind_of(l, ordering, at, LOOKED_AT) end, #ordering, 'behind')
  local priority = l.state.k > 0 and string.match(redis.call('HGET', l.c, ordering) or '', '^%d')
  if priority then
    priority = tonumber(priority)
    pages(function(at) return redis.call('LRANGE', l.q[priority], at, at + LOOKED_AT - 1) end, 0, priority)
  end
end

-- wanted_of reads what is wanted of a lane in ARGV from a place on: host, how many, ordinals. It returns the host, the
-- set, and the place after it.
local function wanted_of(at)
  local wanted, count = {}, tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + count do wanted[tonumber(ARGV[i])] = true end
  return ARGV[at], wanted, at + 2 + count
end
