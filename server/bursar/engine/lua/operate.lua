-- Carries out operations of one shard in order; the journal gets one entry for them all.
-- Each counter and hold is read once and written once.
--
-- KEYS 1 shard, 2 expiries, 3 journal, then the counters that are reserved or booked, then the
--      holds. What settles or extends a hold finds its counters in it, in the same slot: a
--      settlement lands where its reservation did, so it computes no key of its own.
-- ARGV 1 MessagePack {head, prefix, counters, keep, operations}
--      prefix      what all counter keys of the shard begin with
--      counters    {kind, ttl_ms, p1, p2} for each counter key, in order
--      keep        {ms to keep what is settled or recorded, ms to keep what has expired}
--      operations  {verb, hold key, ...}: see verbs/
-- Reply results by operation: see verbs/
-- Keeps: what each operation finds is what the one before it left; nothing is written unless all
--      is decided.

-- @include shared/shard
-- @include shared/counters
-- @include shared/holds

-- Parse.
local head, prefix, specs, keep, operations = unpack(cmsgpack.unpack(ARGV[1]))
local now = head[3]
local FIRST_COUNTER = 3

-- Decide.
local status, seq, newest = check_shard(KEYS[1], head, KEYS[3])
if status ~= STATUS_OK then return reply(status, seq, {}) end

-- What has changed: holds by key, in order of their first change, each packed, with its time to
-- be kept once it has ended.
local touched, changed, packed, keep_ms = {}, {}, {}, {}
local events, is_growing = {}, false
local verbs = {}

local stored = hold_texts({unpack(KEYS, FIRST_COUNTER + #specs + 1)})

-- A hold as the operations before this one left it, to be changed freely: what an earlier one is
-- answered stays as it was then.
local function find_hold(key)
  if touched[key] then return copy_hold(touched[key]) end
  local text = stored[key]
  return text and cmsgpack.unpack(text) or nil
end

-- Counters by their number among the keys, with their names within the shard.
local numbered = {}

local function counter_at(index)
  local counter = numbered[index]
  if counter then return counter end
  local key, spec = KEYS[FIRST_COUNTER + index], specs[index]
  counter = load_counter(key, spec[1], spec[2], spec[3], spec[4], now)
  counter.name = counter.name or string.sub(key, #prefix + 1)
  counter.ttl_ms = spec[2]  -- Not that of an older hold, which may have loaded it.
  numbered[index] = counter
  return counter
end

-- kept_ms: 0 for as long as it is open, else how long it answers repeated calls.
local function note_change(verb, key, hold, deltas, note, kept_ms)
  if not touched[key] then changed[#changed + 1] = key end
  local text = cmsgpack.pack(hold)
  touched[key], packed[key], keep_ms[key] = hold, text, kept_ms
  events[#events + 1] = {verb, key, text, deltas, note}
end

-- @include verbs/reserve
-- @include verbs/settle
-- @include verbs/extend
-- @include verbs/record
-- @include verbs/adjust

local results = {}
for number, operation in ipairs(operations) do
  results[number] = verbs[operation[1]](operation)
end

-- Write.
local due, over = {}, {''}
for _, key in ipairs(changed) do
  local hold = touched[key]
  if hold[H_STATE] == STATE_OPEN or hold[H_STATE] == STATE_CREDIT then
    due[#due + 1], due[#due + 2] = hold[H_EXPIRE_MS], key
  else
    over[#over + 1] = key
  end
end
-- A Redis that is full refuses a script at its first write that needs memory, and settling must
-- go on: so the first write of a call that only settles frees some, also where it ends no hold.
if not is_growing then redis.call('ZREM', KEYS[2], unpack(over)) end
write_counters(now)
for _, key in ipairs(changed) do write_hold(key, packed[key], keep_ms[key]) end
if #due > 0 then redis.call('ZADD', KEYS[2], unpack(due)) end
if is_growing and #over > 1 then redis.call('ZREM', KEYS[2], unpack(over)) end
return reply(STATUS_OK, close_shard(KEYS[1], KEYS[3], head, newest, events), results)
