-- Grants a request its first offer that fits every counter, books it and records its hold.
--
-- Operation {'reserve', numbers, fingerprint, payload, then for each offer its target and terms}
--      numbers     book, expire_ms, ttl_ms, now_ms
--      terms       lowest output, highest output, then {counter, flags, base, slope, ceiling} for
--                  each counter, flat; counter 0 has nothing in the store: a cap on each request
-- Result
--      {1, offer, output, values}       granted; offers count from 1; values: committed, held,
--                                       credit of each counter
--      {2, hold}                        found: the same request
--      {3}                              found: another request
--      {4}                              the journal is full
--      {0, {committed, held, credit, buckets, ...}}   denied, counters in order of use
-- Numbers, terms and values are texts of numbers (shared/texts).
-- Keeps: committed + held <= ceiling + credit at each grant; all counters or none; a request
-- holds once.

do

local GRANTED, FOUND, REUSED, JOURNAL_FULL, DENIED = 1, 2, 3, 4, 0
local FIRST_USE, USE_WIDTH = 3, 5
local FIRST_OFFER, OFFER_WIDTH = 5, 2

-- What PostgreSQL has not recorded is never dropped, so at the bound nothing new is granted.
local journal_full = nil
local function is_journal_full()
  if journal_full == nil then
    journal_full = head[6] ~= 1 and redis.call('XLEN', KEYS[3]) >= head[5]
  end
  return journal_full
end

-- The largest output that fits all counters, or nil where even none does.
local function largest_output(terms, size)
  local output = terms[2]
  for position = FIRST_USE, size, USE_WIDTH do
    local index = terms[position]
    local room = terms[position + 4] - terms[position + 2]
    if index > 0 then
      local counter = numbered[index] or counter_at(index)
      room = room + counter[C_CREDIT] - counter[C_HELD]
      if not counter[C_IDLE] then room = room - counter[C_COMMITTED] end
    end
    if room < 0 then return nil end
    local slope = terms[position + 3]
    if slope > 0 and slope * output > room then
      output = math.floor(room / slope)
      while slope * output > room do output = output - 1 end  -- the division rounds
    end
  end
  return output
end

-- What an operation fills and packs; a table that grows anew each time costs more.
local descriptions, entries, values, deltas = {}, {}, {}, {}

-- Finds what a hold keeps of its counters, what they hold after it, and what it adds to them; and
-- adds it where it is held. Returns how many counters there are.
local function fill(terms, size, output, is_held)
  local count = 0
  for position = FIRST_USE, size, USE_WIDTH do
    local index = terms[position]
    if index > 0 then
      local counter, entry, triple = numbered[index], ENTRY_WIDTH * count, 3 * count
      local amount = terms[position + 2] + terms[position + 3] * output
      local held = counter[C_HELD] + amount
      if is_held then
        begin_if_idle(counter, now)
        add_held(counter, amount)
      end
      values[triple + 1] = counter[C_IDLE] and 0 or counter[C_COMMITTED]
      values[triple + 2] = held
      values[triple + 3] = counter[C_CREDIT]
      deltas[count + 1] = amount
      entries[entry + E_FLAGS], entries[entry + E_SLOT] = terms[position + 1], counter[C_SLOT]
      entries[entry + E_HELD], entries[entry + E_RESERVED] = amount, amount
      count = count + 1
      descriptions[count] = specs[index]
    end
  end
  return count
end

local function book(operation, key, number, terms, size, output)
  local is_held, expire_ms, ttl_ms, now_ms = struct.unpack('<llll', operation[2])
  local count = fill(terms, size, output, is_held == 1)
  local packed = pack_longs(values, 3 * count)
  if is_held == 1 then
    local fingerprint, payload = operation[3], operation[4]
    local target = operation[FIRST_OFFER + OFFER_WIDTH * (number - 1)]
    local counters = table.concat(descriptions, '', 1, count)
    local hold = {
      fingerprint .. payload .. target .. packed .. counters,
      pack_entries(entries, count), '', '', '', STATE_OPEN, 0, number, expire_ms,
      ttl_ms, now_ms, output, output, 0, 1, 0, #fingerprint, #payload, #target, #packed, #counters,
    }
    note_change('reserve', key, hold, pack_longs(deltas, count), '', 0)
    is_growing = true
  end
  return {GRANTED, number, output, packed}
end

local function all_values(operation)
  local found, seen = {}, {}
  for at = FIRST_OFFER + 1, #operation, OFFER_WIDTH do
    local terms, size = unpack_longs(operation[at])
    for position = FIRST_USE, size, USE_WIDTH do
      local index = terms[position]
      if index > 0 and not seen[index] then
        seen[index] = true
        local counter = counter_at(index)
        found[#found + 1] = committed_of(counter)
        found[#found + 1] = counter[C_HELD]
        found[#found + 1] = counter[C_CREDIT]
        found[#found + 1] = bucket_amounts(counter, now)
      end
    end
  end
  return found
end

verbs.reserve = function(operation, key)
  if struct.unpack('<l', operation[2]) == 1 then
    local hold = find_hold(key)
    if hold then
      if fingerprint_of(hold) == operation[3] then return {FOUND, texts[key]} end
      return {REUSED}
    end
    if is_journal_full() then return {JOURNAL_FULL} end
  end
  local number = 0
  for at = FIRST_OFFER + 1, #operation, OFFER_WIDTH do
    local terms, size = unpack_longs(operation[at])
    local output = largest_output(terms, size)
    number = number + 1
    if output and output >= terms[1] then
      return book(operation, key, number, terms, size, output)
    end
  end
  return {DENIED, all_values(operation)}
end

end
