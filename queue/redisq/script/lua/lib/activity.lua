-- Functions that the scripts share which touch activities. It stands after lane.lua.
--
-- An activity is kept, in each partition it goes to, in two keys:
--   a  HASH: m description, i its ID, u when it was marked (only in its home partition), o hash of its ordering key, k of its
--      key's name, q priority,
--      e when it expires, t when it was accepted, n d x c counts (all, delivered, dead, cancelled), l dead letters, f when it was finished,
--      b name of its body (while anything pends or is a dead letter), v when those revived of dead letters expire,
--      p partitions (only in its home partition), y duplicates and what was refused, packed (if there is either and it has no
--      idempotency key), s claim (while it is not yet committed); where several partitions have deliveries of it, g number of
--      this one's last report to the home (negative if the feed is to have no entry for that), in the home "h", and there j
--      the last report of each other
--   r  LIST, kept while anything of it is pending or a dead letter: where each delivery goes, "HOST/PATH" or
--      "HOST\nINBOX"; '' once it is done, with a "!" before it once it is a dead letter. Staged deliveries are not in it yet.
--      Behind it, if there is either, are a zero byte, the length of the attempts before the last one (2 bytes), these, and
--      the IDs of the actors behind the inbox; see history.go and recipients.go
-- A description begins with the length of the URI (3 bytes) and of the metadata (2), and these.
-- A dead letter is named by its activity and ordinal and kept as {host, path, headers, reason, attempts, when it died, its
-- number} in JSON, a line break, and its last attempt. It is filed twice, as "hHOST\0" or "rREASON\0" with when it died, in eight bytes,
-- and its name.
local COUNTS, activities = {'n', 'd', 'x', 'c', 'l'}, {}

-- new_activity returns the activity whose keys begin at KEYS[at], always the same one.
local function new_activity(at)
  local key = KEYS[at]
  activities[key] = activities[key] or {a = key, r = KEYS[at + 1], changed = {}, done = {}}
  return activities[key]
end

local function field(act, name) return redis.call('HGET', act.a, name) end

-- signs counts n deliveries more that wait to be signed by a key, less if n is negative.
local function signs(key, n)
  if n ~= 0 and redis.call('HINCRBY', SIGNING, key, n) <= 0 then redis.call('HDEL', SIGNING, key) end
end

-- save writes what changed of an activity.
local function save(act)
  signs(act.key, act.signs)
  if not act.freed then
    for _, ordinal in ipairs(act.done) do redis.pcall('LSET', act.r, ordinal, '') end -- it fails if it is damaged
  end
  local fields = {}
  for name, value in pairs(act.changed) do fields[#fields + 1], fields[#fields + 2] = name, value end
  if #fields > 0 then redis.call('HSET', act.a, unpack(fields)) end
end

-- look_up reads an activity's ID, time, body and counts, once. Changes of the counts are written at the end.
local function look_up(act)
  if act.counts then return act end
  local about = redis.call('HMGET', act.a, 'i', 't', 'b', 'k', 'g', unpack(COUNTS))
  act.id, act.created, act.body, act.key, act.signs, act.counts = about[1], about[2], about[3], about[4], 0, {}
  for i, name in ipairs(COUNTS) do act.counts[name] = tonumber(about[5 + i]) or 0 end
  act.report, act.is_home = about[5] and tonumber(about[5]), about[5] == 'h'
  at_end[#at_end + 1] = function() save(act) end
  return act
end

local function add_count(act, name, n)
  local c = look_up(act).counts
  c[name] = c[name] + n
  act.changed[name] = c[name]
  if name ~= 'l' then act.signs = act.signs - n end -- what is done, dead or cancelled waits no more
end

-- counts returns how many deliveries of an activity pend, and how many are dead letters.
local function counts(act)
  local c = look_up(act).counts
  return c.n - c.d - c.x - c.c, c.l
end

-- forget_staged takes an activity out of those that are staged with an ordering key.
local function forget_staged(ordering, id)
  local all = redis.call('HGET', ORDERED, ordering) or ''
  for i = 1, #all, 21 do
    if string.sub(all, i, i + 15) == id then
      all = string.sub(all, 1, i - 1) .. string.sub(all, i + 21)
      break
    end
  end
  if all == '' then redis.call('HDEL', ORDERED, ordering) else redis.call('HSET', ORDERED, ordering, all) end
end

-- let_body_go lets an activity have its body no longer.
local function let_body_go(act)
  local name = look_up(act).body
  if not name then return end
  act.body = nil
  redis.call('HDEL', act.a, 'b')
  let_go_of_body(name)
end

-- free drops what only deliveries and dead letters need. The activity can be looked up until its retention is over.
local function free(act, id, finished)
  let_body_go(act)
  redis.call('DEL', act.r)
  redis.call('ZADD', DONE, finished or field(act, 'f') or now, id)
  act.freed = true
end

-- labels returns an activity's URI and metadata, as its description begins with them.
local function labels(act)
  if act.labels then return act.labels end
  local m = field(act, 'm') or ''
  local uri, metadata = 0, 0
  if #m >= 5 then uri, metadata = struct.unpack('>I3I2', m) end
  act.labels = string.sub(m, 1, 5 + uri + metadata)
  return act.labels
end

-- read_reports reads what other partitions reported last of an activity to its home: by their numbers what
-- standing packs, and behind that the number of the report.
local function read_reports(act)
  local about = redis.call('HMGET', act.a, 'p', 'j')
  act.parts, act.reports = about[1] or '', about[2] and cmsgpack.unpack(about[2]) or {}
end

-- conclude writes to the feed that an activity is done if that is so in all partitions: its home decides it, where counts and
-- reports were read.
local function conclude(act)
  local c, reports, after = act.counts, act.reports, {}
  if c.n > c.d + c.x + c.c then return end
  local sums = {c.n, c.d, c.x, c.c}
  for name in string.gmatch(act.parts, '%d+') do
    local report = reports[name]
    if report and report[1] then
      for i = 1, 4 do sums[i] = sums[i] + report[i + 1] end
      for _, part in ipairs({tonumber(name), report[6], report[7]}) do after[#after + 1] = part end
    elseif not string.find(act.a, '{p' .. name .. '}', 1, true) then
      return
    end
  end
  feed(FED_DONE, act.id, sums[1], sums[2], sums[3], sums[4], labels(act), after)
end

-- report_name is what the report with a number is called in ENDED.
local function report_name(act, n) return act.id .. struct.pack('>I4', n) end

-- renew gives the next report of this partition to an activity's home a number, which save writes, and sees to it that it is made.
local function renew(act, quiet)
  local n = math.abs(act.report) + 1
  act.report = quiet and -n or n
  act.changed.g = act.report
  redis.call('ZADD', ENDED, now, report_name(act, n))
end

-- standing returns how this partition's part of an activity is, for a report: {ID, number of the report, and packed whether it has
-- ended, how many deliveries, delivered, dead, cancelled, time and number of the newest entry in the feed, whether the feed is to
-- have an entry for it}. ms and n are those of the entry.
local function standing(act, has_ended, ms, n)
  local c = act.counts
  return {act.id, math.abs(act.report), cmsgpack.pack({has_ended, c.n, c.d, c.x, c.c, ms, n, act.report > 0})}
end

local owed = {} -- activities whose homes are to hear that they have ended in this partition

-- newly_owed returns how these are, since it was called last.
local function newly_owed()
  local reports = {}
  if #owed == 0 then return reports end
  local ms, n = last_entry()
  for i, act in ipairs(owed) do reports[i] = standing(act, true, ms, n) end
  owed = {}
  return reports
end

-- ended says that nothing of an activity is pending here any more: in the feed or, if other partitions have deliveries of it,
-- to its home. A home without deliveries, where another partition has all, says nothing. quiet is for what ended in another store.
local function ended(act, quiet)
  local c = act.counts
  if act.report then
    renew(act, quiet)
    owed[#owed + 1] = act
  elseif not quiet and (c.n > 0 or not string.find(field(act, 'p') or '', ',')) then
    if act.is_home then
      read_reports(act)
      conclude(act)
    else
      feed(FED_DONE, act.id, c.n, c.d, c.x, c.c, labels(act))
    end
  end
end

-- finish closes an activity that has nothing pending any more in this partition: since now or, if that is given, since at,
-- in another store.
local function finish(act, at)
  local pending, letters = counts(act)
  if pending > 0 then return end
  ended(act, at ~= nil)
  at = at or now
  act.changed.f = at
  redis.call('ZREM', EXPIRES, act.id)
  redis.call('ZREM', PENDING, act.id)
  if letters == 0 then free(act, act.id, at) end
end

-- split_listed takes apart what an activity's list has of a delivery: where it goes, the attempts before the last one, and IDs.
local function split_listed(listed)
  local at = string.find(listed, '\0', 1, true)
  if not at or #listed < at + 2 then return listed, '', '' end
  local last = at + 2 + struct.unpack('>I2', listed, at + 1)
  return string.sub(listed, 1, at - 1), string.sub(listed, at + 3, last), string.sub(listed, last + 1)
end

-- feed_delivery writes to the feed what became of a delivery.
local function feed_delivery(kind, act, e, host, listed, reason)
  local _, _, ids = split_listed(type(listed) == 'string' and listed or '')
  feed(kind, host, e.rest, ids, e.activity, e.ordinal, e.attempts, e.last, labels(act), reason)
end

-- delivered counts a delivery as delivered.
local function delivered(act, e, host)
  if FEEDS_DELIVERED == '1' then feed_delivery(FED_DELIVERED, act, e, host, redis.pcall('LINDEX', act.r, e.ordinal), '') end
  add_count(act, 'd', 1)
  act.done[#act.done + 1] = e.ordinal
  total('delivered', 1)
  total('pending', -1)
  rate('delivered', 1)
end

local function cancelled(act, ordinal)
  add_count(act, 'c', 1)
  act.done[#act.done + 1] = ordinal
  total('pending', -1)
end

-- keep_attempt keeps the last attempt of a delivery among those before the last, as there is a newer one. Of an attempt that went
-- as the one after it did, only the time is kept.
local PAST = 4 -- attempts before the last one at most

local ATTEMPT = 11 -- bytes of an attempt before how it went: a mark, when (6), how long (4)

local function keep_attempt(act, e, newer)
  local listed = e.last ~= '' and redis.pcall('LINDEX', act.r, e.ordinal)
  if type(listed) ~= 'string' or listed == '' then return end
  local to, past, ids = split_listed(listed)
  local how = string.sub(e.last, ATTEMPT + 1)
  if how == string.sub(newer, ATTEMPT + 1) then how = '' end
  past = string.sub(e.last, 2, ATTEMPT) .. struct.pack('>I2', #how) .. how .. past
  local last, n = 0, 0
  while n < PAST and last < #past do last, n = last + ATTEMPT + 1 + struct.unpack('>I2', past, last + ATTEMPT), n + 1 end
  past = string.sub(past, 1, last)
  redis.call('LSET', act.r, e.ordinal, to .. '\0' .. struct.pack('>I2', #past) .. past .. ids)
end

local function letter_name(id, ordinal) return id .. struct.pack('>I4', ordinal) end

-- filed returns how a letter is filed by its host and by its reason.
local function filed(name, letter)
  local rest = '\0' .. struct.pack('>I8', letter[6]) .. name
  return 'h' .. letter[1] .. rest, 'r' .. letter[4] .. rest
end

-- died makes a dead letter of a delivery. It died now or, if that is given, at: in the store that it was moved from.
local function died(act, e, host, reason, at)
  add_count(act, 'x', 1)
  add_count(act, 'l', 1)
  total('pending', -1)
  total('dead', 1)
  if not at then
    total('died:' .. reason, 1)
    rate('dead', 1)
  end
  local to = redis.call('LINDEX', act.r, e.ordinal)
  if to then redis.call('LSET', act.r, e.ordinal, '!' .. to) end
  local name = letter_name(e.activity, e.ordinal)
  local letter = {host, e.rest, e.headers, reason, e.attempts, at or now, e.id and string.format('%.0f', e.id)}
  local by_host, by_reason = filed(name, letter)
  redis.call('ZADD', DEAD, at or now, name)
  redis.call('ZADD', FILED, 0, by_host, 0, by_reason)
  redis.call('HSET', LETTERS, name, cjson.encode(letter) .. '\n' .. e.last)
  if not at then feed_delivery(FED_DEAD, act, e, host, to, reason) end
end

-- letter_of returns what a dead letter was, or nil if it isn't there.
local function letter_of(name)
  local text = redis.call('HGET', LETTERS, name)
  if not text then return end
  local about, last = string.match(text, '^([^\n]*)\n(.*)$')
  local ok, letter = pcall(cjson.decode, about or '')
  if not ok or type(letter) ~= 'table' then
    redis.call('HDEL', LETTERS, name)
    redis.call('ZREM', DEAD, name)
    return
  end
  letter.last = last
  return letter
end

-- unfile takes a dead letter out, and reports whether it was there.
local function unfile(act, name)
  local letter = letter_of(name)
  if not letter then return false end
  redis.call('HDEL', LETTERS, name)
  redis.call('ZREM', DEAD, name)
  redis.call('ZREM', FILED, filed(name, letter))
  add_count(act, 'l', -1)
  total('dead', -1)
  return true
end
