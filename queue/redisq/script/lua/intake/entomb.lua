#!lua
-- Keeps in mind that an object was deleted, or that this was undone, for an activity that is stored in steps: in every
-- partition, as what is superseded may be where the activity itself does not go. It does so before the activity is
-- released, so that what is accepted after that comes after the tombstone.
--
-- USES tombstones(note_object)
-- ARGV.id      the activity's ID
-- ARGV.uri     hash of its URI
-- ARGV.role    what it does to its object
-- ARGV.object  hash of that
-- ARGV.refers  hash of the URI that it refers to
-- ARGV.epitaph what its tombstone tells in full
-- RETURNS      1
note_object({id = ARGV.id, uri = ARGV.uri, role = tonumber(ARGV.role), object = ARGV.object, refers = ARGV.refers, epitaph = ARGV.epitaph})
return 1
