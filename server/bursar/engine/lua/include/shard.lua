-- Shared: the shard's own state, and the reply of every script.
--
-- head = {epoch, sequence number the server has seen, now in ms, largest clock lag in ms,
--         most journal entries}
-- A script replies {status, sequence number, results}; results is empty unless status is 0.
--
-- The journal has one entry for each call that changed something: e epoch, s sequence number, t now
-- in ms, and d the events in order, from which committed and held of every counter follow:
--      {'reserve', hold key, hold}
--      {'commit', 'commit_partial' or 'release', hold key, late, settled, note, fingerprint,
--       number of the partial commit, entries that came with another target}
--      {'extend', hold key, expire_ms, entries, ttl_ms, output}
--      {'expire', hold key, amount that was charged by entry}
--      {'record', hold key, hold, note}

local STATUS_OK = 0
local STATUS_MISSING = 1       -- the shard has no data: lost, or never set up
local STATUS_OTHER_EPOCH = 2   -- the shard's data is of another generation
local STATUS_OLDER = 3         -- the shard has lost calls that the server saw answered
local STATUS_CLOCK_BEHIND = 4  -- the server's clock lags behind what the shard has seen

local function check_shard(meta_key, head)
  local meta = redis.call('HMGET', meta_key, 'epoch', 'seq', 'now')
  if not meta[1] then return STATUS_MISSING, 0, 0 end
  local seq, newest = tonumber(meta[2] or 0), tonumber(meta[3] or 0)
  if meta[1] ~= head[1] then return STATUS_OTHER_EPOCH, seq, newest end
  if seq < head[2] then return STATUS_OLDER, seq, newest end
  if head[3] < newest - head[4] then return STATUS_CLOCK_BEHIND, seq, newest end
  return STATUS_OK, seq, newest
end

local function reply(status, seq, results)
  return cmsgpack.pack({status, seq, results})
end

-- Raises the sequence number, remembers the newest time, and appends the events of this call
-- to the journal as one entry. The last writes of a script.
local function close_shard(meta_key, journal_key, head, newest, events)
  local seq = redis.call('HINCRBY', meta_key, 'seq', 1)
  if head[3] > newest then redis.call('HSET', meta_key, 'now', head[3]) end
  if #events > 0 then
    redis.call('XADD', journal_key, 'MAXLEN', '~', head[5], '*',
      'e', head[1], 's', seq, 't', head[3], 'd', cmsgpack.pack(events))
  end
  return seq
end
