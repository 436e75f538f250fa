#!lua flags=allow-oom
-- Publishes events. It is always the same server that does, so that they stay in order.
--
-- KEYS.where   any key of where it runs
-- ARGV.channel the channel
-- ARGV.events  the events
-- RETURNS      1
redis.call('PUBLISH', ARGV.channel, ARGV.events)
return 1
