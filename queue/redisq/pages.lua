-- A set of texts in order that costs little more than their bytes, a third of a ZSET. It stands before lane.lua.
--
-- index is a ZSET of the least text that each page may hold ('' for the first), pages a HASH of the pages by that: texts,
-- each ended by a line break, in no order.
local PAGE = 2048 -- bytes from which on a page is split

-- precedes compares bytes, as ZSETs do; Lua's own < depends on the locale.
local function precedes(a, b)
  local short = math.min(#a, #b)
  for i = 1, short do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- page_of returns the page that a text belongs to, or nil.
local function page_of(set, text)
  return redis.call('ZREVRANGEBYLEX', set.index, '[' .. text, '-', 'LIMIT', 0, 1)[1]
end

-- after returns the first page of those whose texts all come after one, or nil.
local function page_after(set, text) return redis.call('ZRANGEBYLEX', set.index, '(' .. text, '+', 'LIMIT', 0, 1)[1] end

-- split makes two pages of one.
local function split(set, page, all)
  local texts = {}
  for text in string.gmatch(all, '[^\n]+') do texts[#texts + 1] = text end
  table.sort(texts, precedes)
  local half = math.floor(#texts / 2)
  local upper = texts[half + 1]
  redis.call('ZADD', set.index, 0, upper)
  redis.call('HSET', set.pages, page, table.concat(texts, '\n', 1, half) .. '\n', upper, table.concat(texts, '\n', half + 1) .. '\n')
end

-- include adds a text that is not there.
local function include(set, text)
  local page = page_of(set, text)
  if not page then
    page = ''
    redis.call('ZADD', set.index, 0, page)
  end
  local all = (redis.call('HGET', set.pages, page) or '') .. text .. '\n'
  if #all > PAGE then return split(set, page, all) end
  redis.call('HSET', set.pages, page, all)
end

-- replace writes a page anew, which goes if nothing is left of it.
local function replace(set, page, all)
  if all ~= '' then
    redis.call('HSET', set.pages, page, all)
  else
    redis.call('HDEL', set.pages, page)
    redis.call('ZREM', set.index, page)
  end
end

-- exclude takes a text out, and tells whether it was there.
local function exclude(set, text)
  local page = page_of(set, text)
  local all = page and redis.call('HGET', set.pages, page) or ''
  local from, to = string.find('\n' .. all, '\n' .. text .. '\n', 1, true)
  if not from then return false end
  replace(set, page, string.sub(all, 1, from - 1) .. string.sub(all, to))
  return true
end
