-- Grants a request its first offer that fits every counter, books it and records its hold.
--
-- Operation {'reserve', hold key, fingerprint, book, expire_ms, ttl_ms, now_ms, payload, offers}
--      offers      {lowest output, highest output, target, uses}
--      uses        {counter, base, slope, ceiling, meter, flags} for each counter, flat; counter 0
--                  has nothing in the store: a cap on each request
-- Result
--      {1, offer, output, {committed, held, credit, ...}}   granted; offers count from 1
--      {2, hold}                                            found: the same request
--      {3}                                                  found: another request
--      {4}                                                  the journal is full
--      {0, {committed, held, credit, buckets, ...}}         denied, counters in order of use
-- Keeps: committed + held <= ceiling + credit at each grant; all counters or none; a request
-- holds once.

do

local GRANTED, FOUND, REUSED, JOURNAL_FULL, DENIED = 1, 2, 3, 4, 0
local USE_WIDTH = 6

-- What PostgreSQL has not recorded is never dropped, so at the bound nothing new is granted.
local journal_full = nil
local function is_journal_full()
  if journal_full == nil then
    journal_full = head[6] ~= 1 and redis.call('XLEN', KEYS[3]) >= head[5]
  end
  return journal_full
end

-- The largest output that fits all counters, or nil where even none does.
local function largest_output(output, uses)
  for position = 1, #uses, USE_WIDTH do
    local index = uses[position]
    local room = uses[position + 3] - uses[position + 1]
    if index > 0 then
      local counter = numbered[index] or counter_at(index)
      room = room + counter.credit - counter.held - (counter.idle and 0 or counter.committed)
    end
    if room < 0 then return nil end
    local slope = uses[position + 2]
    if slope > 0 and slope * output > room then
      output = math.floor(room / slope)
      while slope * output > room do output = output - 1 end  -- the division rounds
    end
  end
  return output
end

-- What a hold keeps of its counters, what they hold after it, and what it adds to them.
local function hold_amounts(uses, output, is_held)
  local entries, values, deltas, count = {}, {}, {}, 0
  for position = 1, #uses, USE_WIDTH do
    local index = uses[position]
    if index > 0 then
      local counter = numbered[index]
      local amount = uses[position + 1] + uses[position + 2] * output
      local extra = amount
      if is_held then
        begin_if_idle(counter, now)
        add_held(counter, amount)
        extra = 0
      end
      values[3 * count + 1] = counter.idle and 0 or counter.committed
      values[3 * count + 2] = counter.held + extra
      values[3 * count + 3] = counter.credit
      deltas[3 * count + 1], deltas[3 * count + 2], deltas[3 * count + 3] = amount, 0, 0
      count = count + 1
      entries[count] = {
        counter.name, counter.kind, counter.ttl_ms, counter.p1, counter.p2, counter.slot,
        uses[position + 4], uses[position + 5], amount, amount, 0,
      }
    end
  end
  return entries, values, deltas
end

local function book(operation, number, offer, output)
  local is_held = operation[4] == 1
  local entries, values, deltas = hold_amounts(offer[4], output, is_held)
  if is_held then
    local hold = {
      STATE_OPEN, operation[3], operation[5], operation[6], number, output, operation[7],
      operation[8], offer[3], entries, values, '', 0, {}, {}, 0, 0, 1, output,
    }
    note_change('reserve', KEYS[operation[2]], hold, deltas, '', 0)
    is_growing = true
  end
  return {GRANTED, number, output, values}
end

local function all_values(operation)
  local values, seen = {}, {}
  for _, offer in ipairs(operation[9]) do
    local uses = offer[4]
    for position = 1, #uses, USE_WIDTH do
      local index = uses[position]
      if index > 0 and not seen[index] then
        seen[index] = true
        local counter = counter_at(index)
        values[#values + 1] = committed_of(counter)
        values[#values + 1] = counter.held
        values[#values + 1] = counter.credit
        values[#values + 1] = bucket_amounts(counter, now)
      end
    end
  end
  return values
end

verbs.reserve = function(operation)
  if operation[4] == 1 then
    local hold = find_hold(KEYS[operation[2]])
    if hold then
      if hold[H_FINGERPRINT] == operation[3] then return {FOUND, hold} end
      return {REUSED}
    end
    if is_journal_full() then return {JOURNAL_FULL} end
  end
  for number, offer in ipairs(operation[9]) do
    local output = largest_output(offer[2], offer[4])
    if output and output >= offer[1] then return book(operation, number, offer, output) end
  end
  return {DENIED, all_values(operation)}
end

end
