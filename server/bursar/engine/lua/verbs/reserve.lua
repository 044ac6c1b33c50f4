-- Grants each request its first offer that fits every counter, books it and records its hold.
--
-- KEYS 1 shard, 2 expiries, 3 journal, then the counters, then the holds
-- ARGV 1 MessagePack {head, prefix, counters, operations}
--      prefix      what all counter keys of the shard begin with
--      counters    {kind, ttl_ms, p1, p2} for each counter key, in order
--      operations  {hold key, fingerprint, book, expire_ms, ttl_ms, now_ms, payload, offers}
--      offers      {lowest output, highest output, target, uses}
--      uses        {counter, base, slope, ceiling, meter, flags} for each counter, flat; counter 0
--                  has nothing in the store: a cap on each request
-- Reply results by operation
--      {1, offer, output, {committed, held, credit, ...}, slots}   granted; offers count from 1
--      {2, hold}                                                  found: the same request
--      {3}                                                        found: another request
--      {4}                                                        the journal is full
--      {0, {committed, held, credit, buckets, ...}}               denied, counters in order of use
-- Keeps: committed + held <= ceiling + credit at each grant; all counters or none; a request
-- holds once.

-- @include shard
-- @include counters
-- @include holds

local GRANTED, FOUND, REUSED, JOURNAL_FULL, DENIED = 1, 2, 3, 4, 0
local USE_WIDTH = 6

-- Parse.
local head, prefix, specs, operations = unpack(cmsgpack.unpack(ARGV[1]))
local now = head[3]
local FIRST_COUNTER = 3

-- Decide.
local status, seq, newest = check_shard(KEYS[1], head, KEYS[3])
if status ~= STATUS_OK then return reply(status, seq, {}) end

-- What PostgreSQL has not recorded is never dropped, so at the bound nothing new is granted.
local journal_full = head[6] ~= 1 and redis.call('XLEN', KEYS[3]) >= head[5]

local results, events, made, packed, made_keys = {}, {}, {}, {}, {}

local function counter_at(index)
  local spec = specs[index]
  return load_counter(KEYS[FIRST_COUNTER + index], spec[1], spec[2], spec[3], spec[4], now)
end

-- The largest output that fits all counters, or nil where even none does.
local function largest_output(offer)
  local output, uses = offer[2], offer[4]
  for position = 1, #uses, USE_WIDTH do
    local base, slope, ceiling = uses[position + 1], uses[position + 2], uses[position + 3]
    local used, credit = 0, 0
    if uses[position] > 0 then
      local counter = counter_at(uses[position])
      used, credit = counter.committed + counter.held, counter.credit
    end
    local room = ceiling + credit - used - base
    if room < 0 then return nil end
    if slope > 0 then
      local fits = math.floor(room / slope)
      while slope * fits > room do fits = fits - 1 end  -- the division rounds
      if fits < output then output = fits end
    end
  end
  return output
end

local function book(operation, number, offer, output)
  local entries, values, deltas = {}, {}, {}
  local uses = offer[4]
  for position = 1, #uses, USE_WIDTH do
    if uses[position] > 0 then
      local counter = counter_at(uses[position])
      local amount = uses[position + 1] + uses[position + 2] * output
      if operation[3] == 1 then add_held(counter, amount) end
      entries[#entries + 1] = {
        string.sub(counter.key, #prefix + 1), counter.kind, counter.ttl_ms, counter.p1,
        counter.p2, counter.slot, uses[position + 4], uses[position + 5], amount, amount, 0,
      }
      deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = amount, 0, 0
      local extra = operation[3] == 1 and 0 or amount
      values[#values + 1] = counter.committed
      values[#values + 1] = counter.held + extra
      values[#values + 1] = counter.credit
    end
  end
  if operation[3] == 1 then
    local hold = {
      STATE_OPEN, operation[2], operation[4], operation[5], number, output, operation[6],
      operation[7], offer[3], entries, values, '', 0, {}, {}, 0, 0, 1, output,
    }
    local key = KEYS[operation[1]]
    made[key], made_keys[#made_keys + 1] = hold, key
    packed[key] = cmsgpack.pack(hold)
    events[#events + 1] = {'reserve', key, packed[key], deltas, ''}
  end
  return {GRANTED, number, output, values}
end

local function all_values(operation)
  local values, seen = {}, {}
  for _, offer in ipairs(operation[8]) do
    local uses = offer[4]
    for position = 1, #uses, USE_WIDTH do
      local index = uses[position]
      if index > 0 and not seen[index] then
        seen[index] = true
        local counter = counter_at(index)
        values[#values + 1] = counter.committed
        values[#values + 1] = counter.held
        values[#values + 1] = counter.credit
        values[#values + 1] = bucket_amounts(counter, now)
      end
    end
  end
  return values
end

local function decide(operation)
  if operation[3] == 1 then
    local key = KEYS[operation[1]]
    local hold = made[key] or read_hold(key)
    if hold then
      if hold[H_FINGERPRINT] == operation[2] then return {FOUND, hold} end
      return {REUSED}
    end
    if journal_full then return {JOURNAL_FULL} end
  end
  for number, offer in ipairs(operation[8]) do
    local output = largest_output(offer)
    if output and output >= offer[1] then return book(operation, number, offer, output) end
  end
  return {DENIED, all_values(operation)}
end

for number, operation in ipairs(operations) do results[number] = decide(operation) end

-- Write.
write_counters(now)
for _, key in ipairs(made_keys) do
  write_hold(key, packed[key], 0)
  redis.call('ZADD', KEYS[2], made[key][H_EXPIRE_MS], key)
end
return reply(STATUS_OK, close_shard(KEYS[1], KEYS[3], head, newest, events), results)
