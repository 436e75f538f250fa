-- Makes leases last from now, or ends them.
--
-- KEYS[i]      the lease of a host
-- ARGV[1]      how long the leases shall last, in ms; 0 ends them
-- ARGV[i + 1]  its token
-- RETURNS      for each host 1, or 0 if the lease isn't held any more
local answer = {}
for i, key in ipairs(KEYS) do
  local held = string.match(redis.call('GET', key) or '', '^%d+')
  answer[i] = 0
  if held == ARGV[i + 1] then
    redis.call('PEXPIRE', key, ARGV[1])
    answer[i] = 1
  end
end
return answer
