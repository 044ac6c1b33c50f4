-- Shared: the hold, one MessagePack array, mirrored by engine/operations.py.

local STATE_OPEN, STATE_COMMITTED, STATE_RELEASED, STATE_EXPIRED, STATE_RECORDED = 1, 2, 3, 4, 5
-- A credit in force, until its time is over; then, and for other adjustments, adjusted.
local STATE_CREDIT, STATE_ADJUSTED = 6, 7

-- Fields of a hold.
local H_STATE, H_FINGERPRINT, H_EXPIRE_MS, H_TTL_MS = 1, 2, 3, 4
local H_OFFER, H_OUTPUT, H_CREATE_MS, H_PAYLOAD, H_TARGET = 5, 6, 7, 8, 9
local H_ENTRIES, H_VALUES = 10, 11
-- How it was settled last: fingerprint, time, {amount, overage, committed, held} by entry,
-- amounts by meter, number of the last partial commit, whether it had expired, its state then.
local H_SETTLE_FINGERPRINT, H_SETTLE_MS, H_SETTLED, H_CHARGES = 12, 13, 14, 15
local H_SEQUENCE, H_LATE, H_REVISION, H_OUTPUT_NOW = 16, 17, 18, 19

-- Fields of an entry: one counter of a hold. held is what it still holds, reserved what it held
-- in all (of an expired one: at its end), booked what expiry charged.
local E_COUNTER, E_KIND, E_TTL_MS, E_P1, E_P2, E_SLOT = 1, 2, 3, 4, 5, 6
local E_METER, E_FLAGS, E_HELD, E_RESERVED, E_BOOKED = 7, 8, 9, 10, 11

local FLAG_CHARGE_ON_EXPIRY = 1
local FLAG_RETURNED = 2  -- never committed: concurrency
local FLAG_ADDED = 4     -- came with another target than the granted one

local function has_flag(flags, flag)
  return math.floor(flags / flag) % 2 == 1
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

local function copy_hold(hold)
  local copy = {unpack(hold)}
  copy[H_ENTRIES] = {}
  for position, entry in ipairs(hold[H_ENTRIES]) do copy[H_ENTRIES][position] = {unpack(entry)} end
  return copy
end

-- An open hold has no TTL of its own: only settling or the sweeper ends it, whatever Redis's
-- clock does. A settled one stays for a while to answer repeated calls.
local function write_hold(key, packed, keep_ms)
  if keep_ms > 0 then
    redis.call('SET', key, packed, 'PX', keep_ms)
  else
    redis.call('SET', key, packed)
  end
end

local function load_entry(prefix, entry, now)
  return load_counter(prefix .. entry[E_COUNTER], entry[E_KIND], entry[E_TTL_MS],
    entry[E_P1], entry[E_P2], now)
end
