-- Ends holds that nobody settled in time: gives them back, or charges them where the budget says.
-- Ends credits whose time is over.
--
-- KEYS 1 shard, 2 expiries, 3 journal. The holds are those that the expiries name, the counters
--      those that each hold names, all in the same slot.
-- ARGV 1 MessagePack {head, prefix, most, keep_ms}
-- Reply results {expired, charged, due}: holds ended, entries charged, whether more may be due
-- Keeps: a hold expires once; held falls by exactly what was held.

-- @include shared/shard
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

local function note_end(key, hold, deltas)
  hold[H_REVISION] = hold[H_REVISION] + 1
  local packed = cmsgpack.pack(hold)
  ended[#ended + 1] = {key, packed}
  events[#events + 1] = {'expire', key, packed, deltas, ''}
end

local function expire(key, hold)
  local deltas = {}
  for _, entry in ipairs(hold[H_ENTRIES]) do
    local counter = load_entry(prefix, entry, now)
    local booked = 0
    if has_flag(entry[E_FLAGS], FLAG_CHARGE_ON_EXPIRY)
        and not has_flag(entry[E_FLAGS], FLAG_RETURNED) then
      booked = entry[E_HELD]
    end
    if exists(counter) then
      if entry[E_HELD] ~= 0 then add_held(counter, -entry[E_HELD]) end
      add_committed(counter, entry[E_SLOT], booked)
    end
    if booked > 0 then charged = charged + 1 end
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = -entry[E_HELD], booked, 0
    -- What it held at its end is what a late commit of unknown price is charged.
    entry[E_RESERVED], entry[E_HELD], entry[E_BOOKED] = entry[E_HELD], 0, booked
  end
  hold[H_STATE] = STATE_EXPIRED
  expired = expired + 1
  note_end(key, hold, deltas)
end

local function end_credit(key, hold)
  local deltas = {}
  for _, entry in ipairs(hold[H_ENTRIES]) do
    local counter = load_entry(prefix, entry, now)
    local credit = entry[E_RESERVED]
    if exists(counter) then add_credit(counter, -credit) end
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = 0, 0, -credit
  end
  hold[H_STATE] = STATE_ADJUSTED
  note_end(key, hold, deltas)
end

local stored = hold_texts(due)
for _, key in ipairs(due) do
  local hold = stored[key] and cmsgpack.unpack(stored[key])
  if hold and hold[H_STATE] == STATE_OPEN then expire(key, hold) end
  if hold and hold[H_STATE] == STATE_CREDIT then end_credit(key, hold) end
end

-- Write.
redis.call('ZREM', KEYS[2], unpack(due))
write_counters(now)
for _, one in ipairs(ended) do write_hold(one[1], one[2], keep_ms) end
local raised = close_shard(KEYS[1], KEYS[3], head, newest, events)
return reply(STATUS_OK, raised, {expired, charged, #due == most})
