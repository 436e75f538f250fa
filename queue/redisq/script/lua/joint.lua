-- Runs a script in several partitions, one after the other. An error in one is its answer; the others go on.
--
-- ARGV    of each partition how many KEYS it has, how many ARGV, and these
-- RETURNS of each {what the script returns}
--
-- FUNCTIONS stands for what scripts share, made once, and REST for all else, done anew in each partition: see link.go.
local all_keys, all_args = KEYS, ARGV
local S, KEYS, ARGV = {}
FUNCTIONS

local function work()
REST
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
while arg < #all_args do
  KEYS = some(all_keys, key, tonumber(all_args[arg + 1]))
  ARGV = some(all_args, arg + 2, tonumber(all_args[arg + 2]))
  key, arg = key + #KEYS, arg + 2 + #ARGV
  local worked, answer = pcall(work)
  if not worked then answer = failed(answer) end
  answers[#answers + 1] = {answer}
end
return answers
