-- Shared: the shard's own state, and the reply of every script.
--
-- head = {epoch, sequence number the server has seen, now in ms, largest clock lag in ms,
--         most journal entries, 1 where an acknowledged call is sent again after a rebuild,
--         journal id of the newest call that the server made and does not know recorded, or ''}
-- ARGV 2 is the run of Redis that the call has reached. One that was started anew, or took over from
-- another, may lack its last calls: `run` of the shard names the one of which every server has said
-- that nothing is missing (confirm.lua).
--
-- A script replies {status, sequence number, results, sequence number of the newest journal entry,
-- journal id of this call's entry or ''}; results is empty unless status is 0.
--
-- The journal has one entry for each call that changed something: e epoch, s sequence number, t now
-- in ms, and d the events in order, flat, each
--      verb, hold key, the packed hold after it, deltas, note
-- where deltas are what the event added to each counter: {held}, {held, committed} or {held,
-- committed, credit} for each entry of that hold, as a text of numbers (shared/texts). So every
-- counter and every hold follows from the journal alone.
-- Verbs: reserve, commit, commit_partial, release, extend, expire, record, adjust.

local STATUS_OK = 0
local STATUS_MISSING = 1       -- the shard has no data: lost, or never set up
local STATUS_OTHER_EPOCH = 2   -- the shard's data is of another generation
local STATUS_OLDER = 3         -- the shard has lost calls that the server saw answered
local STATUS_CLOCK_BEHIND = 4  -- the server's clock lags behind what the shard has seen
local STATUS_REPLAYING = 5     -- rebuilt, but acknowledged calls are still being sent again
local STATUS_UNCONFIRMED = 6   -- this run of Redis may lack calls that some server saw answered

local journaled, entry_id = 0, ''

-- True where a call that was answered is not in the journal and was never recorded: the shard went
-- back, and others have called since, so that its number says nothing.
local function lacks(journal_key, id, trimmed)
  local time, number = string.match(id, '(%d+)-(%d+)')
  local trimmed_time, trimmed_number = string.match(trimmed or '0-0', '(%d+)-(%d+)')
  time, trimmed_time = tonumber(time), tonumber(trimmed_time)
  if time < trimmed_time then return false end
  if time == trimmed_time and tonumber(number) <= tonumber(trimmed_number) then return false end
  return #redis.call('XRANGE', journal_key, id, id) == 0
end

local function check_shard(meta_key, head, journal_key)
  local meta = redis.call('HMGET', meta_key,
    'epoch', 'seq', 'now', 'replaying', 'last', 'trimmed', 'run')
  if not meta[1] then return STATUS_MISSING, 0, 0 end
  local seq, newest = tonumber(meta[2] or 0), tonumber(meta[3] or 0)
  journaled = tonumber(meta[5] or 0)
  if meta[1] ~= head[1] then return STATUS_OTHER_EPOCH, seq, newest end
  if seq < head[2] then return STATUS_OLDER, seq, newest end
  if journal_key and head[7] ~= '' and lacks(journal_key, head[7], meta[6]) then
    return STATUS_OLDER, seq, newest
  end
  if meta[4] and head[6] ~= 1 then return STATUS_REPLAYING, seq, newest end
  if meta[7] ~= ARGV[2] then return STATUS_UNCONFIRMED, seq, newest end
  if head[3] < newest - head[4] then return STATUS_CLOCK_BEHIND, seq, newest end
  return STATUS_OK, seq, newest
end

local function reply(status, seq, results)
  return cmsgpack.pack({status, seq, results, journaled, entry_id})
end

-- Raises the sequence number, remembers the newest time, and appends the events of this call
-- to the journal as one entry. The last writes of a script. The journal is never cut here: only
-- what is recorded is trimmed (trim.lua).
local function close_shard(meta_key, journal_key, head, newest, events)
  local seq = redis.call('HINCRBY', meta_key, 'seq', 1)
  if head[3] > newest then redis.call('HSET', meta_key, 'now', head[3]) end
  if #events > 0 then
    redis.call('HSET', meta_key, 'last', seq)
    journaled = seq
    entry_id = redis.call('XADD', journal_key, '*',
      'e', head[1], 's', seq, 't', head[3], 'd', cmsgpack.pack(events))
  end
  return seq
end
