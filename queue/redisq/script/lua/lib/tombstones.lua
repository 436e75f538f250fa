-- Functions that the scripts share which deal with deleted objects. It stands after bodies.lua.
--
--   tombstones  HASH: by the hash of an object the number of its deletion (8 bytes, 0 once that was undone), the ID of the
--               activity that left it (16), the hash of its URI (16), and both in full; by that hash, after a 'u', the hash
--               of the object
--   tombs       LIST of number and hash of the object, in the order left
-- The number is one as deliveries have: what has a lower one was accepted before.
local function tombstone(object)
  local text = object ~= '' and redis.call('HGET', TOMBSTONES, object)
  if text then return struct.unpack('>I8', text), text end
end

-- is_superseded reports whether an object was deleted after a delivery with this number was accepted.
local function is_superseded(object, id) return (tombstone(object) or 0) > id end

local function leave_tombstone(object, deletion, by, uri, epitaph)
  redis.call('HSET', TOMBSTONES, object, number(deletion) .. by .. uri .. epitaph, 'u' .. uri, object)
  redis.call('RPUSH', TOMBS, number(deletion) .. object)
end

-- entomb leaves a tombstone, once for each activity.
local function entomb(object, by, uri, epitaph)
  local _, text = tombstone(object)
  if text and string.sub(text, 9, 24) == by then return end
  if text then redis.call('HDEL', TOMBSTONES, 'u' .. string.sub(text, 25, 40)) end
  local deletion = math.max(numbers.first, numbers.last + 1)
  numbers.first = deletion + 1
  leave_tombstone(object, deletion, by, uri, epitaph)
end

-- restore takes a tombstone away. The activity that left it is still known, so that it does not do so again.
local function restore(object)
  local _, text = tombstone(object)
  if text then redis.call('HSET', TOMBSTONES, object, number(0) .. string.sub(text, 9)) end
end

-- note_object keeps in mind what an activity does to its object. An undo may only name the deletion.
local function note_object(d)
  if d.role == DELETES and d.object ~= '' then entomb(d.object, d.id, d.uri, d.epitaph) end
  if d.role ~= RESTORES then return end
  local object = d.object
  if object == '' and d.refers ~= '' then object = redis.call('HGET', TOMBSTONES, 'u' .. d.refers) or '' end
  restore(object)
end
