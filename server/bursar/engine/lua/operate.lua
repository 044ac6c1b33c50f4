-- Carries out operations of one shard in order; the journal gets one entry for them all.
-- Each counter and hold is read once and written once.
--
-- KEYS 1 shard, 2 expiries, 3 journal, then the counters that are reserved or booked, then the
--      hold of each operation. What settles or extends a hold finds its counters in it, in the
--      same slot: a settlement lands where its reservation did, so it computes no key of its own.
-- ARGV 1 MessagePack {head, prefix, counters, keep, operations}
--      prefix      what all counter keys of the shard begin with
--      counters    of each counter key, in order: its description (shared/counters) as a hold
--                  keeps it, with its length before it
--      keep        {ms to keep what is settled or recorded, ms to keep what has expired}
--      operations  {verb, ...}: see verbs/
-- Reply results by operation: see verbs/; every hold is as it is kept
-- Keeps: what each operation finds is what the one before it left; nothing is written unless all
--      is decided.

-- @include shared/shard
-- @include shared/texts
-- @include shared/counters
-- @include shared/holds

-- Parse.
local head, prefix, specs, keep, operations = unpack(cmsgpack.unpack(ARGV[1]))
local now = head[3]
local FIRST_COUNTER = 3

-- Decide.
local status, seq, newest = check_shard(KEYS[1], head, KEYS[3])
if status ~= STATUS_OK then return reply(status, seq, {}) end

-- What has changed: holds by key, in order of their first change, each with its time to be kept
-- once it has ended.
local touched, changed, keep_ms = {}, {}, {}
local events, is_growing = {}, false
local verbs = {}

-- Packed holds by key, each as the operations so far left it.
local texts = hold_texts({unpack(KEYS, FIRST_COUNTER + #specs + 1)})

-- A hold, to be changed freely.
local function find_hold(key)
  return texts[key] and unpack_hold(texts[key])
end

-- Counters by their number among the keys.
local numbered = {}

local function counter_at(index)
  local counter = numbered[index]
  if not counter then
    local description = string.sub(specs[index], 3)
    counter = named_counter(KEYS[FIRST_COUNTER + index], description, now)
    numbered[index] = counter
  end
  return counter
end

-- kept_ms: 0 for as long as it is open, else how long it answers repeated calls.
local function note_change(verb, key, hold, deltas, note, kept_ms)
  if not touched[key] then changed[#changed + 1] = key end
  local text = pack_hold(hold)
  touched[key], texts[key], keep_ms[key] = hold, text, kept_ms
  local last = #events
  events[last + 1], events[last + 2], events[last + 3] = verb, key, text
  events[last + 4], events[last + 5] = deltas, note
  return text
end

-- @include verbs/reserve
-- @include verbs/settle
-- @include verbs/extend
-- @include verbs/record
-- @include verbs/adjust

local results, first_hold = {}, FIRST_COUNTER + #specs
for number, operation in ipairs(operations) do
  results[number] = verbs[operation[1]](operation, KEYS[first_hold + number])
end

-- Write.
local due, over = {}, {''}
for _, key in ipairs(changed) do
  local hold = touched[key]
  if hold[H_STATE] == STATE_OPEN or hold[H_STATE] == STATE_CREDIT then
    due[#due + 1], due[#due + 2] = whole(hold[H_EXPIRE_MS]), key
  else
    over[#over + 1] = key
  end
end
-- A Redis that is full refuses a script at its first write that needs memory, and settling must
-- go on: so the first write of a call that only settles frees some, also where it ends no hold.
if not is_growing then redis.call('ZREM', KEYS[2], unpack(over)) end
write_counters(now)
for _, key in ipairs(changed) do write_hold(key, texts[key], keep_ms[key]) end
if #due > 0 then redis.call('ZADD', KEYS[2], unpack(due)) end
if is_growing and #over > 1 then redis.call('ZREM', KEYS[2], unpack(over)) end
return reply(STATUS_OK, close_shard(KEYS[1], KEYS[3], head, newest, events), results)
