#!lua flags=allow-oom
-- Leaves a trace, which a node takes away by a plain command: so it sees whether one Redis has all partitions.
--
-- KEYS.trial a key that nobody else uses
-- RETURNS    nothing of interest
return redis.call('SET', KEYS.trial, '', 'PX', 10000)
