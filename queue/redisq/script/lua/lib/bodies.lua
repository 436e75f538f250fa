-- Functions that the scripts share which keep bodies. It stands after lane.lua.
--
-- A body is kept once in a partition, however many activities have it. It is named by five bytes of its digest: others than
-- the first five where those name another body. So two bodies never share a name, and equal names are equal bodies.
--   bodies    HASH by name: the body
--   bodyinfo  HASH by name: digest (16 bytes), how many activities have it (4), what it does to its object (queue.Role, 1),
--             and the hash of that, if it has one (16)
-- An activity has its body until nothing of it pends or is a dead letter.

-- name_body returns the name of the body with a digest, and what is known of it; nothing is if it isn't there.
local function name_body(digest)
  for i = 1, #digest - 4 do
    local name = string.sub(digest, i, i + 4)
    local info = redis.call('HGET', BODY_INFO, name)
    if not info or string.sub(info, 1, #digest) == digest then return name, info end
  end
  error({err = 'ERR too many bodies begin alike'})
end

local function holders(info) return (struct.unpack('>I4', info, 17)) end

local function set_holders(name, info, n)
  redis.call('HSET', BODY_INFO, name, string.sub(info, 1, 16) .. struct.pack('>I4', n) .. string.sub(info, 21))
end

-- hold_body lets one more activity have a body. d describes that, as described has just read it.
local function hold_body(d, body)
  local name, info = d.body, d.held
  if info then return set_holders(name, info, holders(info) + 1) end
  redis.call('HSET', BODIES, name, body)
  redis.call('HSET', BODY_INFO, name, d.digest .. struct.pack('>I4B', 1, d.role) .. d.object)
end

-- let_go_of_body lets one activity less have a body, which goes with the last.
local function let_go_of_body(name)
  local info = redis.call('HGET', BODY_INFO, name)
  if not info then return end
  if holders(info) > 1 then return set_holders(name, info, holders(info) - 1) end
  redis.call('HDEL', BODIES, name)
  redis.call('HDEL', BODY_INFO, name)
end

-- about_object returns what a body does to its object, and the hash of that; nothing if it has none.
local function about_object(name)
  local info = redis.call('HGET', BODY_INFO, name)
  if info and #info > 21 then return string.byte(info, 21), string.sub(info, 22) end
end
