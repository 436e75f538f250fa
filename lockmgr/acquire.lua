#!lua flags=allow-oom
-- Leases those of the hosts that nobody holds.
--
-- KEYS      of each partition its last token, and the lease of each host: "TOKEN NONCE", gone when the lease has ended
-- ARGV[1]   how long the leases last, in ms
-- ARGV[2]   a nonce of this call, so that it may be repeated
-- ARGV[3…]  of each partition how many hosts it has
-- RETURNS   for each host its token, "" if it is held, "!" if its key isn't ours: something else has written it
--
-- It takes little room, and for a while only: it must run when Redis is full, or a full store could never be emptied.
-- A lease that is held for longer than ten times as long as this call's is held by nobody: the clock was set back, and the
-- lease was to end by it. It gets as long as one of this call's.
-- Tokens rise with Redis's clock or, where that is set back, by one: so they also rise when the last writes were lost.
local ttl, nonce = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local answer, at = {}, 0

-- lease returns what to say of the lease of a host, and the last token.
local function lease(key, token)
  local text = string.format('%.0f', token + 1)
  if redis.call('SET', key, text .. ' ' .. nonce, 'NX', 'PX', ttl) then return text, token + 1 end
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return '!', token end
  local held, taken_by
  if value then held, taken_by = string.match(value, '^(%d+) (.*)$') end
  if held and redis.call('PTTL', key) > 10 * ttl then redis.call('PEXPIRE', key, ttl) end
  return taken_by == nonce and held or '', token
end

for i = 3, #ARGV do
  local last = KEYS[at + 1]
  local token = math.max(tonumber(redis.call('GET', last) or 0), time[1] * 1e6 + time[2])
  for key = at + 2, at + 1 + ARGV[i] do
    answer[#answer + 1], token = lease(KEYS[key], token)
  end
  redis.call('SET', last, string.format('%.0f', token))
  at = at + 1 + ARGV[i]
end
return answer
