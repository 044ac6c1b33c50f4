-- Ends holds that nobody settled in time: gives them back, or charges them where the budget says.
-- Ends credits whose time is over.
--
-- KEYS 1 shard, 2 expiries, 3 journal. The holds are those that the expiries name, the counters
--      those that each hold names, all in the same slot.
-- ARGV 1 MessagePack {head, prefix, most, keep_ms}
-- Reply results {expired, charged, due}: holds ended, entries charged, whether more may be due
-- Keeps: a hold expires once; held falls by exactly what was held.

-- @include shared/shard
-- @include shared/texts
-- @include shared/counters
-- @include shared/holds

-- Parse.
local head, prefix, most, keep_ms = unpack(cmsgpack.unpack(ARGV[1]))
local now = head[3]

-- Decide.
local status, seq, newest = check_shard(KEYS[1], head, KEYS[3])
if status ~= STATUS_OK then return reply(status, seq, {}) end

local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, most)
if #due == 0 then return reply(STATUS_OK, seq, {0, 0, false}) end

local ended, events, expired, charged = {}, {}, 0, 0

local function note_end(key, hold, entries, count, deltas)
  hold[H_REVISION] = hold[H_REVISION] + 1
  hold[H_ENTRIES] = pack_entries(entries, count)
  local packed = pack_hold(hold)
  ended[#ended + 1] = {key, packed}
  for _, part in ipairs({'expire', key, packed, pack_longs(deltas, #deltas), ''}) do
    events[#events + 1] = part
  end
end

local function expire(key, hold)
  local entries, counters, count = open_entries(prefix, hold, now)
  local deltas = {}
  for number = 1, count do
    local counter, entry = counters[number], ENTRY_WIDTH * (number - 1)
    local held = entries[entry + E_HELD]
    local booked = is_charged(entries[entry + E_FLAGS]) and held or 0
    if exists(counter) then
      if held ~= 0 then add_held(counter, -held) end
      add_committed(counter, entries[entry + E_SLOT], booked)
    end
    if booked > 0 then charged = charged + 1 end
    deltas[#deltas + 1], deltas[#deltas + 2] = -held, booked
    -- What it held at its end is what a late commit of unknown price is charged.
    entries[entry + E_RESERVED], entries[entry + E_HELD] = held, 0
  end
  hold[H_STATE] = STATE_EXPIRED
  expired = expired + 1
  note_end(key, hold, entries, count, deltas)
end

local function end_credit(key, hold)
  local entries, counters, count = open_entries(prefix, hold, now)
  local deltas = {}
  for number = 1, count do
    local counter = counters[number]
    local credit = entries[ENTRY_WIDTH * (number - 1) + E_RESERVED]
    if exists(counter) then add_credit(counter, -credit) end
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = 0, 0, -credit
  end
  hold[H_STATE] = STATE_ADJUSTED
  note_end(key, hold, entries, count, deltas)
end

local stored = hold_texts(due)
for _, key in ipairs(due) do
  local hold = stored[key] and unpack_hold(stored[key])
  if hold and hold[H_STATE] == STATE_OPEN then expire(key, hold) end
  if hold and hold[H_STATE] == STATE_CREDIT then end_credit(key, hold) end
end

-- Write.
redis.call('ZREM', KEYS[2], unpack(due))
write_counters(now)
for _, one in ipairs(ended) do write_hold(one[1], one[2], keep_ms) end
local raised = close_shard(KEYS[1], KEYS[3], head, newest, events)
return reply(STATUS_OK, raised, {expired, charged, #due == most})
