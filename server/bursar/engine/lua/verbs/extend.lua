-- Makes an open hold last longer, or larger or smaller.
--
-- Operation {'extend', revision, expire_ms, ttl_ms, output, totals}
--      revision    of the hold that totals were computed from; 0 where there are none
--      expire_ms   0: stays
--      totals      {amount in all, ceiling} by entry, flat; empty: the amounts stay
-- Result {code, hold, ...}
--      0 not found, 1 done (then {committed, held, credit, ...} by entry), 2 no room (then
--      {committed, held, credit, buckets, ...} by entry), 3 ended before, 6 expired, 7 changed
--      since it was read
-- Keeps: committed + held <= ceiling + credit where a hold grows; the old hold where it may not.

do

local NOT_FOUND, DONE, NO_ROOM, ENDED, EXPIRED, CHANGED = 0, 1, 2, 3, 6, 7

local function has_room(entries, counters, count, totals)
  for number = 1, count do
    local reserved = entries[ENTRY_WIDTH * (number - 1) + E_RESERVED]
    local growth, ceiling = totals[2 * number - 1] - reserved, totals[2 * number]
    local counter = counters[number]
    local after = counter[C_COMMITTED] + counter[C_HELD] + growth
    if growth > 0 and after > ceiling + counter[C_CREDIT] then return false end
  end
  return true
end

local function resize(entries, counters, count, totals, deltas)
  for number = 1, count do
    local entry, counter = ENTRY_WIDTH * (number - 1), counters[number]
    local total = totals[2 * number - 1]
    local held, reserved = entries[entry + E_HELD], entries[entry + E_RESERVED]
    -- A hold that partial commits have used up cannot fall below nothing.
    local growth = math.max(total - reserved, -held)
    if exists(counter) then add_held(counter, growth) end
    entries[entry + E_HELD], entries[entry + E_RESERVED] = held + growth, total
    deltas[number] = growth
  end
end

local function values(counters, count, with_buckets)
  local list = {}
  for number = 1, count do
    local counter = counters[number]
    list[#list + 1] = counter[C_COMMITTED]
    list[#list + 1] = counter[C_HELD]
    list[#list + 1] = counter[C_CREDIT]
    if with_buckets then list[#list + 1] = bucket_amounts(counter, now) end
  end
  return list
end

verbs.extend = function(operation, key)
  local revision, expire_ms, ttl_ms, output, totals = unpack(operation, 2, 6)
  local hold = find_hold(key)
  if not hold then return {NOT_FOUND} end
  if hold[H_STATE] == STATE_EXPIRED then return {EXPIRED, texts[key]} end
  if hold[H_STATE] ~= STATE_OPEN then return {ENDED, texts[key]} end
  local entries, counters, count = open_entries(prefix, hold, now)
  local deltas = {}
  for number = 1, count do deltas[number] = 0 end
  if #totals > 0 then
    if hold[H_REVISION] ~= revision then return {CHANGED, texts[key]} end
    if not has_room(entries, counters, count, totals) then
      return {NO_ROOM, texts[key], values(counters, count, true)}
    end
    resize(entries, counters, count, totals, deltas)
    hold[H_ENTRIES] = pack_entries(entries, count)
    hold[H_OUTPUT_NOW] = output
  end
  if expire_ms > 0 then hold[H_EXPIRE_MS], hold[H_TTL_MS] = expire_ms, ttl_ms end
  for number = 1, count do
    -- Counters that live by use must outlive the hold.
    if exists(counters[number]) then keep_alive(counters[number]) end
  end
  hold[H_REVISION] = hold[H_REVISION] + 1
  local text = note_change('extend', key, hold, pack_longs(deltas, count), '', 0)
  is_growing = true
  return {DONE, text, values(counters, count, false)}
end

end
