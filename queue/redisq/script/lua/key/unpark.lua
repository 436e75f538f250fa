#!lua flags=allow-oom
-- Makes due what waits for a key.
--
-- USES lane(now, read_lane, change, unpark), place(write, signal)
-- KEYS.lanes… six keys for each lane
-- ARGV.key    hash of the key's ID
-- ARGV.hosts… the hosts
for i = ARGV.hosts, #ARGV do
  local l = read_lane(KEYS.lanes + 6 * (i - ARGV.hosts), ARGV[i])
  for _, e in pairs(l.window) do
    if e.key == ARGV.key then
      unpark(l, e)
      e.due = now
      change(l, e)
    end
  end
  if l.known then write(l) end
end
signal()
return 1
