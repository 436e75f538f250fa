#!lua flags=allow-oom
-- Tells all who watch of events. It is always the same server that does, so that they stay in order.
--
-- ARGV[2] the channel
-- ARGV[3] the events
-- RETURNS 1
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
