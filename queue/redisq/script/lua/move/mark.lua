#!lua flags=allow-oom
-- Marks the store, also one that is full: what is in it may have been moved for that.
--
-- ARGV.mark the mark, '' to take it away
-- RETURNS   1
if ARGV.mark == '' then
  redis.call('HDEL', KEYS.meta, 'mark')
else
  redis.call('HSET', KEYS.meta, 'mark', ARGV.mark)
end
return 1
