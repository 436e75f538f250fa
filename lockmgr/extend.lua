-- Makes leases last from now, or ends them.
--
-- KEYS[i]      the lease of a host
-- ARGV[1]      how long the leases shall last, in ms; 0 ends them
-- ARGV[i + 1]  its token
-- RETURNS      for each host 1, or 0 if the lease isn't held any more, also where something else has written its key
local ttl, answer = ARGV[1], {}
for i, key in ipairs(KEYS) do
  local lease = redis.pcall('GET', key)
  local held = type(lease) == 'string' and string.match(lease, '^%d+')
  answer[i] = 0
  if held == ARGV[i + 1] then
    redis.call('PEXPIRE', key, ttl)
    answer[i] = 1
  end
end
return answer
