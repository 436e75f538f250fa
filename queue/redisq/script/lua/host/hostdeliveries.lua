#!lua flags=no-writes
-- Lists what is pending in a lane, by number.
--
-- USES lane(number, from_numbered, read_lane, behind_of, waits_behind), search(due_at, waits_for)
-- KEYS.lane×6 the lane
-- ARGV.host   its host
-- ARGV.from   the least number that is listed
-- ARGV.most   how many are listed at most
-- RETURNS     {whether anything of this partition is not in its lane yet, for each delivery {number, activity, ordinal, path,
--             priority, attempts, when it is due in ms or 0 if that is not known, what it waits for, last attempt}}
--
-- The window, each part of the backlog, and what waits behind each delivery of the window are sources: in each of these the
-- deliveries are in the order of their numbers. A source reads some more at a time.
local from, most, l = tonumber(ARGV.from), tonumber(ARGV.most), read_lane(KEYS.lane, ARGV.host)
local sources = {}

local function add_source(where, read_page)
  local page = read_page(1)
  if page[1] then sources[#sources + 1] = {where = where, read_page = read_page, page = page, at = 1} end
end

local function head(source) return source.page[source.at].id end

-- pass goes on behind the head of a source, and reports whether it has another one.
local function pass(source)
  source.at = source.at + 1
  if source.at > #source.page then source.page, source.at = source.read_page(math.min(most, 50)), 1 end
  return source.page[1] ~= nil
end

local function add_window()
  local ids, at = {}, 0
  for id in pairs(l.window) do
    if id >= from then ids[#ids + 1] = id end
  end
  table.sort(ids)
  add_source('window', function(n)
    local page = {}
    for i = 1, math.min(n, #ids - at) do page[i] = l.window[ids[at + i]] end
    at = at + #page
    return page
  end)
end

-- first_at returns where in a backlog the first delivery is that may be listed.
local function first_at(backlog)
  local low, high = 0, from > 0 and redis.call('LLEN', backlog) or 0
  while low < high do
    local half = math.floor((low + high) / 2)
    if from_numbered(redis.call('LINDEX', backlog, half)).id < from then low = half + 1 else high = half end
  end
  return low
end

local function add_backlog(priority)
  local at = first_at(l.q[priority])
  add_source(priority, function(n)
    local page = redis.call('LRANGE', l.q[priority], at, at + n - 1)
    for i, text in ipairs(page) do page[i] = from_numbered(text) end
    at = at + #page
    return page
  end)
end

local function add_behind(chain)
  local at = 0
  add_source('behind', function(n)
    local page = behind_of(l, chain, at, n, number(from))
    for i, text in ipairs(page) do page[i] = from_numbered(string.sub(text, #chain + 1)) end
    at = at + #page
    return page
  end)
end

local function greatest_first(a, b) return head(a) > head(b) end

-- put_back puts a source where it belongs, the one with the least head last.
local function put_back(source)
  local low, high = 1, #sources + 1
  while low < high do
    local half = math.floor((low + high) / 2)
    if head(sources[half]) > head(source) then low = half + 1 else high = half end
  end
  table.insert(sources, low, source)
end

add_window()
for priority = 0, 2 do add_backlog(priority) end
if waits_behind(l) then
  for chain in pairs(l.heads) do add_behind(chain) end
end
table.sort(sources, greatest_first)
local listed = {}
while #listed < most and #sources > 0 do
  local source = table.remove(sources)
  local e = source.page[source.at]
  listed[#listed + 1] = {
    e.id, e.activity, e.ordinal, e.rest, e.priority, e.attempts, due_at(l, e, source.where), waits_for(l, e, source.where), e.last,
  }
  if pass(source) then put_back(source) end
end
return {redis.call('EXISTS', STAGED), listed}
