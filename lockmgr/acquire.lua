#!lua flags=allow-oom
-- Leases those of the hosts that nobody holds.
--
-- KEYS[1]   the partition's last token
-- KEYS[2…]  the lease of each host: "TOKEN NONCE", gone when the lease has ended
-- ARGV[1]   how long the leases last, in ms
-- ARGV[2]   a nonce of this call, so that it may be repeated
-- RETURNS   for each host its token, "" if it is held, "!" if its key isn't ours: something else has written it
--
-- It takes little room, and for a while only: it must run when Redis is full, or a full store could never be emptied.
-- A lease that is held for longer than ten times as long as this call's is held by nobody: the clock was set back, and the
-- lease was to end by it. It gets as long as one of this call's.
-- Tokens rise with Redis's clock or, where that is set back, by one: so they also rise when the last writes were lost.
local last, ttl, nonce = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local token = math.max(tonumber(redis.call('GET', last) or 0), time[1] * 1e6 + time[2])
local answer = {}
for i = 2, #KEYS do
  local text = string.format('%.0f', token + 1)
  local free = redis.call('SET', KEYS[i], text .. ' ' .. nonce, 'NX', 'PX', ttl)
  if free then
    token = token + 1
    answer[i - 1] = text
  else
    local lease = redis.pcall('GET', KEYS[i])
    local held, taken_by
    if type(lease) == 'string' then held, taken_by = string.match(lease, '^(%d+) (.*)$') end
    if held and redis.call('PTTL', KEYS[i]) > 10 * ttl then redis.call('PEXPIRE', KEYS[i], ttl) end
    answer[i - 1] = type(lease) == 'table' and '!' or taken_by == nonce and held or ''
  end
end
redis.call('SET', last, string.format('%.0f', token))
return answer
