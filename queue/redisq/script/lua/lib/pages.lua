-- A set of texts in order that costs little more than their bytes, a third of a ZSET. It stands before lane.lua.
--
-- index is a ZSET of the least text that each page may hold ('' for the first), pages a HASH of the pages by that: texts,
-- each ended by a line break, in no order.
local PAGE = 2048 -- bytes from which on a page is split

-- precedes compares bytes, as ZSETs do; Lua's own < depends on the locale.
local function precedes(a, b)
  local short = math.min(#a, #b)
  local same = 0 -- bytes, by fours at first
  while same + 4 <= short and string.sub(a, same + 1, same + 4) == string.sub(b, same + 1, same + 4) do same = same + 4 end
  for i = same + 1, short do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- page_of returns the page that a text belongs to, or nil.
local function page_of(set, text)
  return redis.call('ZREVRANGEBYLEX', set.index, '[' .. text, '-', 'LIMIT', 0, 1)[1]
end

-- page_after returns the first page of those whose texts all come after one, or nil.
local function page_after(set, text) return redis.call('ZRANGEBYLEX', set.index, '(' .. text, '+', 'LIMIT', 0, 1)[1] end

-- middle returns a text that about half of some texts precede, and at least one does.
local function middle(texts)
  local some, step = {}, math.max(1, math.floor(#texts / 9))
  for i = 1, #texts, step do some[#some + 1] = texts[i] end
  table.sort(some, precedes)
  return some[math.floor(#some / 2) + 1]
end

-- keep_page writes a page, or makes several of it.
local function keep_page(set, page, all)
  if #all <= PAGE then return redis.call('HSET', set.pages, page, all) end
  local texts, below, above = {}, {}, {}
  for text in string.gmatch(all, '[^\n]+') do texts[#texts + 1] = text end
  local upper = middle(texts)
  for _, text in ipairs(texts) do
    local half = precedes(text, upper) and below or above
    half[#half + 1] = text
  end
  redis.call('ZADD', set.index, 0, upper)
  keep_page(set, page, table.concat(below, '\n') .. '\n')
  keep_page(set, upper, table.concat(above, '\n') .. '\n')
end

-- include adds texts that are not there. It writes a page once for all that belong to it.
local function include(set, texts)
  table.sort(texts, precedes)
  local i = 1
  while texts[i] do
    local page = page_of(set, texts[i])
    if not page then
      page = ''
      redis.call('ZADD', set.index, 0, page)
    end
    local first, above = i, texts[i + 1] and page_after(set, texts[i])
    repeat i = i + 1 until not texts[i] or above and not precedes(texts[i], above)
    keep_page(set, page, (redis.call('HGET', set.pages, page) or '') .. table.concat(texts, '\n', first, i - 1) .. '\n')
  end
end

-- replace overwrites a page, or removes it if nothing is left of it.
local function replace(set, page, all)
  if all ~= '' then
    redis.call('HSET', set.pages, page, all)
  else
    redis.call('HDEL', set.pages, page)
    redis.call('ZREM', set.index, page)
  end
end

-- exclude takes a text out, and reports whether it was there.
local function exclude(set, text)
  local page = page_of(set, text)
  local all = page and redis.call('HGET', set.pages, page) or ''
  local from, to = string.find('\n' .. all, '\n' .. text .. '\n', 1, true)
  if not from then return false end
  replace(set, page, string.sub(all, 1, from - 1) .. string.sub(all, to))
  return true
end
