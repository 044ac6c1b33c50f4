-- Books what no call used: credits for a time, what a new budget starts with, corrections.
--
-- KEYS 1 shard, 2 expiries, 3 journal, then the counters, then the holds
-- ARGV 1 MessagePack {head, prefix, counters, operations}
--      counters    {kind, ttl_ms, p1, p2} for each counter key, in order
--      operations  {hold key, fingerprint, expire_ms, payload, uses, keep_ms, note}
--      expire_ms   when the credit is taken back; 0: it stays for as long as its counter
--      uses        {counter, slot, committed, credit, meter} for each counter, flat; slot -1: now
-- Reply results by operation: {code, hold, committed, held, credit, ...}
--      1 done, 2 done before with the same content, 3 the id is another adjustment's (without
--      counters), 7 a counter would overflow (without a hold)
-- Keeps: an id adjusts once.

-- @include shard
-- @include counters
-- @include holds

local DONE, REPEATED, REUSED, OVERFLOW = 1, 2, 3, 7
local USE_WIDTH = 5

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

local function values_of(uses)
  local values = {}
  for position = 1, #uses, USE_WIDTH do
    local counter = counter_at(uses[position])
    values[#values + 1] = counter.committed
    values[#values + 1] = counter.held
    values[#values + 1] = counter.credit
  end
  return values
end

local function adjust(operation)
  local key = KEYS[operation[1]]
  local fingerprint, expire_ms, payload, uses, keep_ms, note = unpack(operation, 2, 7)
  local hold = made[key] and made[key][1] or read_hold(key)
  if hold then
    local state = hold[H_STATE]
    local same = (state == STATE_CREDIT or state == STATE_ADJUSTED)
      and hold[H_FINGERPRINT] == fingerprint
    if same then return {REPEATED, hold, values_of(uses)} end
    return {REUSED, hold}
  end
  for position = 1, #uses, USE_WIDTH do
    local counter = counter_at(uses[position])
    if not can_add(counter, uses[position + 2]) or math.abs(counter.credit + uses[position + 3])
        > COUNTER_MAX then
      return {OVERFLOW}
    end
  end
  local entries, deltas = {}, {}
  for position = 1, #uses, USE_WIDTH do
    local counter = counter_at(uses[position])
    local slot, committed, credit = unpack(uses, position + 1, position + 3)
    if slot < 0 then slot = counter.slot end
    add_committed(counter, slot, committed)
    if credit ~= 0 then add_credit(counter, credit) end
    entries[#entries + 1] = {
      string.sub(counter.key, #prefix + 1), counter.kind, counter.ttl_ms, counter.p1,
      counter.p2, slot, uses[position + 4], 0, 0, credit, 0,
    }
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = 0, committed, credit
  end
  hold = {
    expire_ms > 0 and STATE_CREDIT or STATE_ADJUSTED, fingerprint, expire_ms, 0, 0, 0, now,
    payload, '', entries, {}, fingerprint, now, {}, {}, 0, 0, 1, 0,
  }
  local packed = cmsgpack.pack(hold)
  made[key], order[#order + 1] = {hold, packed, keep_ms}, key
  events[#events + 1] = {'adjust', key, packed, deltas, note}
  return {DONE, hold, values_of(uses)}
end

for number, operation in ipairs(operations) do results[number] = adjust(operation) end

-- Write.
write_counters(now)
for _, key in ipairs(order) do
  local hold, packed, keep_ms = unpack(made[key])
  local open = hold[H_STATE] == STATE_CREDIT
  write_hold(key, packed, open and 0 or keep_ms)
  if open then redis.call('ZADD', KEYS[2], hold[H_EXPIRE_MS], key) end
end
return reply(STATUS_OK, close_shard(KEYS[1], KEYS[3], head, newest, events), results)
