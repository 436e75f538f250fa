#!lua flags=allow-oom
-- Makes due what waits for a key.
--
-- KEYS[FIRST…] six keys for each lane
-- ARGV[2]      hash of the key's ID
-- ARGV[3…]     the hosts
for i = 3, #ARGV do
  local l = read(FIRST + 6 * (i - 3), ARGV[i])
  for _, e in pairs(l.window) do
    if e.key == ARGV[2] then
      unpark(l, e)
      e.due = now
      set(l, e)
    end
  end
  if l.known then write(l) end
end
signal()
return 1
