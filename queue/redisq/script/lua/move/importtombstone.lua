#!lua
-- Stores a tombstone that another store had.
--
-- USES lane(micros), tombstones(tombstone, leave_tombstone)
-- ARGV.by      ID of the activity that left it
-- ARGV.uri     hash of the deletion's URI
-- ARGV.object  hash of the object
-- ARGV.epitaph both in full, see tombstones.go
-- ARGV.left    when it was left in ms
-- RETURNS      1, or 0 if the object has one already
if tombstone(ARGV.object) then return 0 end
leave_tombstone(ARGV.object, math.min(micros, (tonumber(ARGV.left) - EPOCH * 1000) * 1000), ARGV.by, ARGV.uri, ARGV.epitaph)
return 1
