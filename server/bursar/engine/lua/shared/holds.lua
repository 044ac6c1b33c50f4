-- Shared: the hold, one text, mirrored by engine/wire.py: numbers of fixed width, among them how
-- long each text is, then the texts:
--      fingerprint, payload, target; {committed, held, credit} of each counter as they were when it
--      was granted; its counters, each a description (shared/counters) with its length before it;
--      an entry for each of them; then how it was settled last: fingerprint, {amount,
--      overage, committed, held, credit} for each counter, amounts by meter as MessagePack
-- All but the last four never change, so what settles a hold copies them as one text.

local STATE_OPEN, STATE_COMMITTED, STATE_RELEASED, STATE_EXPIRED, STATE_RECORDED = 1, 2, 3, 4, 5
-- A credit in force, until its time is over; then, and for other adjustments, adjusted.
local STATE_CREDIT, STATE_ADJUSTED = 6, 7

-- A hold while a script has it: texts, then numbers in the order in which they are kept. fixed: the
-- texts that never change, but that counters of another target come behind them.
local H_FIXED, H_ENTRIES, H_SETTLE_FINGERPRINT, H_SETTLED, H_CHARGES = 1, 2, 3, 4, 5
-- late: whether it had expired when it was settled; sequence: number of its last partial commit.
local H_STATE, H_LATE, H_OFFER, H_EXPIRE_MS, H_TTL_MS, H_CREATE_MS = 6, 7, 8, 9, 10, 11
local H_OUTPUT, H_OUTPUT_NOW, H_SEQUENCE, H_REVISION, H_SETTLE_MS = 12, 13, 14, 15, 16
local H_FINGERPRINT_SIZE, H_PAYLOAD_SIZE, H_TARGET_SIZE, H_VALUES_SIZE = 17, 18, 19, 20
local H_COUNTERS_SIZE, H_ENTRIES_SIZE, H_SETTLE_FINGERPRINT_SIZE = 21, 22, 23
local H_SETTLED_SIZE, H_CHARGES_SIZE = 24, 25

local HOLD_FORMAT, NUMBERS_BYTES = '<BBHllllllllHIHIIIHII', 98

-- Numbers of an entry. held is what it still holds, reserved what it held in all (of an expired
-- one: at its end, which is what expiry charged if it did; of an adjustment: the credit).
local E_FLAGS, E_SLOT, E_HELD, E_RESERVED = 1, 2, 3, 4
local ENTRY_FORMAT, ENTRY_WIDTH, ENTRY_BYTES = 'Blll', 4, 25

local FLAG_CHARGE_ON_EXPIRY = 1
local FLAG_RETURNED = 2  -- never committed: concurrency
local FLAG_ADDED = 4     -- came with another target than the granted one

local function has_flag(flags, flag)
  return math.floor(flags / flag) % 2 == 1
end

-- Whether expiry charges an entry.
local function is_charged(flags)
  return has_flag(flags, FLAG_CHARGE_ON_EXPIRY) and not has_flag(flags, FLAG_RETURNED)
end

local function unpack_hold(text)
  local hold = {'', '', '', '', '', struct.unpack(HOLD_FORMAT, text)}
  local last = NUMBERS_BYTES + hold[H_FINGERPRINT_SIZE] + hold[H_PAYLOAD_SIZE]
    + hold[H_TARGET_SIZE] + hold[H_VALUES_SIZE] + hold[H_COUNTERS_SIZE]
  hold[H_FIXED] = string.sub(text, NUMBERS_BYTES + 1, last)
  hold[H_ENTRIES] = string.sub(text, last + 1, last + hold[H_ENTRIES_SIZE])
  last = last + hold[H_ENTRIES_SIZE]
  if last < #text then
    local settled = last + hold[H_SETTLE_FINGERPRINT_SIZE]
    hold[H_SETTLE_FINGERPRINT] = string.sub(text, last + 1, settled)
    hold[H_SETTLED] = string.sub(text, settled + 1, settled + hold[H_SETTLED_SIZE])
    hold[H_CHARGES] = string.sub(text, settled + hold[H_SETTLED_SIZE] + 1)
  end
  return hold
end

local function pack_hold(hold)
  local entries, fingerprint = hold[H_ENTRIES], hold[H_SETTLE_FINGERPRINT]
  local settled, charges = hold[H_SETTLED], hold[H_CHARGES]
  hold[H_ENTRIES_SIZE], hold[H_SETTLE_FINGERPRINT_SIZE] = #entries, #fingerprint
  hold[H_SETTLED_SIZE], hold[H_CHARGES_SIZE] = #settled, #charges
  return struct.pack(HOLD_FORMAT, unpack(hold, H_STATE, H_CHARGES_SIZE))
    .. hold[H_FIXED] .. entries .. fingerprint .. settled .. charges
end

-- A text among those that never change; before: how many bytes of them come before it.
local function fixed_text(hold, before, size)
  return string.sub(hold[H_FIXED], before + 1, before + size)
end

local function fingerprint_of(hold)
  return fixed_text(hold, 0, hold[H_FINGERPRINT_SIZE])
end

local function target_of(hold)
  return fixed_text(hold, hold[H_FINGERPRINT_SIZE] + hold[H_PAYLOAD_SIZE], hold[H_TARGET_SIZE])
end

-- The packed holds of keys, by key; those that are not there have none.
local function hold_texts(keys)
  local texts = {}
  if #keys == 0 then return texts end
  for position, text in ipairs(redis.call('MGET', unpack(keys))) do
    texts[keys[position]] = text
  end
  return texts
end

-- The numbers of a hold's entries in a row, its counters, and how many these are.
local function open_entries(prefix, hold, now)
  local count, fixed = hold[H_ENTRIES_SIZE] / ENTRY_BYTES, hold[H_FIXED]
  local numbers = unpack_values(ENTRY_FORMAT, ENTRY_WIDTH, hold[H_ENTRIES], count, 1)
  local first = #fixed - hold[H_COUNTERS_SIZE] + 1
  local counters = unpack_values(SHORT_TEXT, 1, fixed, count, first)
  for number = 1, count do
    local description = counters[number]
    counters[number] = described[description] or described_counter(prefix, description, now)
  end
  return numbers, counters, count
end

local function pack_entries(entries, count)
  return pack_values(ENTRY_FORMAT, ENTRY_WIDTH, entries, count)
end

-- An open hold has no TTL of its own: only settling or the sweeper ends it, whatever Redis's
-- clock does. A settled one stays for a while to answer repeated calls.
local function write_hold(key, packed, keep_ms)
  if keep_ms > 0 then
    redis.call('SET', key, packed, 'PX', whole(keep_ms))
  else
    redis.call('SET', key, packed)
  end
end
