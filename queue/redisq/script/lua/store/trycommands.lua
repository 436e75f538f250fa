#!lua flags=allow-oom
-- Tries all commands that scripts need, on a key that holds nothing afterwards. So a user that may not use one of them is found
-- when a node starts; and the memory that Redis takes to count a command for the first time, 25 kB, is taken then.
--
-- USES lane(WAKES)
-- RETURNS      1
local key = KEYS.nothing

local function try(...)
  for _, words in ipairs({...}) do
    local command = {}
    for word in string.gmatch(words, '%S+') do command[#command + 1] = word == 'KEY' and key or word end
    local answer = redis.pcall(unpack(command))
    if type(answer) == 'table' and answer.err then error({err = 'ERR ' .. command[1] .. ': ' .. answer.err}) end
  end
  redis.call('DEL', key)
end

try('SET KEY 1', 'GET KEY', 'EXISTS KEY', 'PEXPIRE KEY 1000')
try('HSET KEY f 1', 'HSETNX KEY f 1', 'HINCRBY KEY f 1', 'HGET KEY f', 'HMGET KEY f', 'HGETALL KEY', 'HVALS KEY', 'HEXISTS KEY f', 'HKEYS KEY', 'HDEL KEY f')
try('RPUSH KEY a b', 'LPUSH KEY c', 'LINSERT KEY BEFORE a d', 'LSET KEY 0 e', 'LINDEX KEY 0', 'LLEN KEY', 'LRANGE KEY 0 1', 'LREM KEY 1 a',
  'LPOP KEY', 'LTRIM KEY 0 1')
try('ZADD KEY 0 a 0 b 0 c', 'ZSCORE KEY a', 'ZCARD KEY', 'ZCOUNT KEY 0 0', 'ZRANGE KEY 0 0', 'ZRANGEBYSCORE KEY 0 0', 'ZRANGEBYLEX KEY - +',
  'ZREVRANGEBYLEX KEY + -', 'ZREMRANGEBYSCORE KEY 1 1', 'ZREM KEY a')
try('XADD KEY * e 1', 'XRANGE KEY - +', 'XREVRANGE KEY + -', 'XDEL KEY 1-1', 'XLEN KEY', 'XTRIM KEY MINID 1-1', 'XINFO STREAM KEY')
redis.call('PUBLISH', WAKES, HOUR) -- a lane is due in an hour: nobody minds
return 1
