#!lua flags=no-writes
-- Looks for names of hosts by state.
--
-- USES pages(precedes, page_of, page_after), lane(HOSTS)
-- ARGV.after    a name
-- ARGV.most     how many that come after it are wanted of each state
-- ARGV.letters… first letters of states
-- RETURNS       of each state {'', names} if these are all, else {a name, names}: all that come before that one
local most = tonumber(ARGV.most)

-- names_in returns the names of one state.
local function names_in(letter)
  local first, all = letter .. ARGV.after, {''}
  local page = page_of(HOSTS, first) or page_after(HOSTS, first)
  while page do
    for text in string.gmatch(redis.call('HGET', HOSTS.pages, page), '[^\n]+') do
      if string.sub(text, 1, 1) == letter and precedes(first, text) then all[#all + 1] = string.sub(text, 2) end
    end
    page = page_after(HOSTS, page)
    if page and string.sub(page, 1, 1) ~= letter then break end
    if page and #all > most then
      all[1] = string.sub(page, 2)
      break
    end
  end
  return all
end

local answer = {}
for i = ARGV.letters, #ARGV do answer[#answer + 1] = names_in(ARGV[i]) end
return answer
