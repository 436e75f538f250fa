#!lua flags=allow-oom
-- Adds the entry of what somebody did to the feed.
--
-- USES feed(feed_action, newly_fed)
-- ARGV.said the entry
-- RETURNS   how many entries were written to the feed
feed_action(ARGV.said)
return newly_fed()
