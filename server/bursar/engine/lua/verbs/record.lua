-- Books usage that had no reservation. It is never refused for lack of room.
--
-- KEYS 1 shard, 2 expiries, 3 journal, then the counters, then the holds
-- ARGV 1 MessagePack {head, prefix, counters, operations}
--      counters    {kind, ttl_ms, p1, p2} for each counter key, in order
--      operations  {hold key, fingerprint, payload, target, amounts, uses, keep_ms, note}
--      amounts     by meter
--      uses        {counter, meter, flags} for each counter, flat
-- Reply results by operation: {code, hold}
--      1 done, 2 done before with the same content, 3 the request id is another request's,
--      7 a counter would overflow (without a hold)
-- Keeps: a request id books once.

-- @include shard
-- @include counters
-- @include holds

local DONE, REPEATED, REUSED, OVERFLOW = 1, 2, 3, 7
local USE_WIDTH = 3

-- Parse.
local head, prefix, specs, operations = unpack(cmsgpack.unpack(ARGV[1]))
local now = head[3]
local FIRST_COUNTER = 3

-- Decide.
local status, seq, newest = check_shard(KEYS[1], head, KEYS[3])
if status ~= STATUS_OK then return reply(status, seq, {}) end

local results, events, made, order = {}, {}, {}, {}

local function counter_at(index)
  local spec = specs[index]
  return load_counter(KEYS[FIRST_COUNTER + index], spec[1], spec[2], spec[3], spec[4], now)
end

local function record(operation)
  local key = KEYS[operation[1]]
  local fingerprint, payload, target, amounts, uses, keep_ms, note = unpack(operation, 2, 8)
  local hold = made[key] and made[key][1] or read_hold(key)
  if hold then
    local same = hold[H_STATE] == STATE_RECORDED and hold[H_FINGERPRINT] == fingerprint
    return {same and REPEATED or REUSED, hold}
  end
  local entries, settled, deltas = {}, {}, {}
  for position = 1, #uses, USE_WIDTH do
    if not can_add(counter_at(uses[position]), amounts[uses[position + 1]] or 0) then
      return {OVERFLOW}
    end
  end
  for position = 1, #uses, USE_WIDTH do
    local meter, flags = uses[position + 1], uses[position + 2]
    local counter = counter_at(uses[position])
    local amount = has_flag(flags, FLAG_RETURNED) and 0 or amounts[meter] or 0
    add_committed(counter, counter.slot, amount)
    entries[#entries + 1] = {
      string.sub(counter.key, #prefix + 1), counter.kind, counter.ttl_ms, counter.p1,
      counter.p2, counter.slot, meter, flags, 0, 0, 0,
    }
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = 0, amount, 0
    for _, value in ipairs({amount, 0, counter.committed, counter.held, counter.credit}) do
      settled[#settled + 1] = value
    end
  end
  hold = {
    STATE_RECORDED, fingerprint, 0, 0, 0, 0, now, payload, target, entries, {},
    fingerprint, now, settled, amounts, 0, 0, 1, 0,
  }
  local packed = cmsgpack.pack(hold)
  made[key], order[#order + 1] = {hold, packed, keep_ms}, key
  events[#events + 1] = {'record', key, packed, deltas, note}
  return {DONE, hold}
end

for number, operation in ipairs(operations) do results[number] = record(operation) end

-- Write.
write_counters(now)
for _, key in ipairs(order) do write_hold(key, made[key][2], made[key][3]) end
return reply(STATUS_OK, close_shard(KEYS[1], KEYS[3], head, newest, events), results)
