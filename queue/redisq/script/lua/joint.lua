-- Runs a script in several partitions, one after the other. An error in one is its answer; the others go on.
--
-- ARGV    of each partition how many KEYS it has, how many ARGV, and these
-- RETURNS of each {what the script returns}
local function work(KEYS, ARGV)
BODY
end

local function some(list, before, n)
  local t = {}
  for i = 1, n do t[i] = list[before + i] end
  return t
end

local function failed(what)
  local text = type(what) == 'table' and what.err or tostring(what)
  return {err = string.find(text, 'user_script', 1, true) and text or text .. ' in @user_script'}
end

local answers, key, arg = {}, 0, 0
while arg < #ARGV do
  local keys, args = some(KEYS, key, tonumber(ARGV[arg + 1])), some(ARGV, arg + 2, tonumber(ARGV[arg + 2]))
  key, arg = key + #keys, arg + 2 + #args
  local worked, answer = pcall(work, keys, args)
  if not worked then answer = failed(answer) end
  answers[#answers + 1] = {answer}
end
return answers
