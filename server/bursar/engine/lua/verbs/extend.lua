-- Makes an open hold last longer, or larger or smaller.
--
-- Operation {'extend', hold key, revision, expire_ms, ttl_ms, output, totals}
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

local function has_room(entries, totals)
  for position, entry in ipairs(entries) do
    local growth = totals[2 * position - 1] - entry[E_RESERVED]
    local ceiling = totals[2 * position]
    if growth > 0 then
      local counter = load_entry(prefix, entry, now)
      if counter.committed + counter.held + growth > ceiling + counter.credit then return false end
    end
  end
  return true
end

local function resize(entries, totals, deltas)
  for position, entry in ipairs(entries) do
    local total = totals[2 * position - 1]
    -- A hold that partial commits have used up cannot fall below nothing.
    local growth = math.max(total - entry[E_RESERVED], -entry[E_HELD])
    local counter = load_entry(prefix, entry, now)
    if exists(counter) then add_held(counter, growth) end
    entry[E_HELD], entry[E_RESERVED] = entry[E_HELD] + growth, total
    deltas[3 * position - 2] = growth
  end
end

local function values(entries, with_buckets)
  local list = {}
  for _, entry in ipairs(entries) do
    local counter = load_entry(prefix, entry, now)
    list[#list + 1] = counter.committed
    list[#list + 1] = counter.held
    list[#list + 1] = counter.credit
    if with_buckets then list[#list + 1] = bucket_amounts(counter, now) end
  end
  return list
end

verbs.extend = function(operation)
  local key = KEYS[operation[2]]
  local revision, expire_ms, ttl_ms, output, totals = unpack(operation, 3, 7)
  local hold = find_hold(key)
  if not hold then return {NOT_FOUND} end
  if hold[H_STATE] == STATE_EXPIRED then return {EXPIRED, hold} end
  if hold[H_STATE] ~= STATE_OPEN then return {ENDED, hold} end
  local entries, deltas = hold[H_ENTRIES], {}
  for number = 1, 3 * #entries do deltas[number] = 0 end
  if #totals > 0 then
    if hold[H_REVISION] ~= revision then return {CHANGED, hold} end
    if not has_room(entries, totals) then return {NO_ROOM, hold, values(entries, true)} end
    resize(entries, totals, deltas)
    hold[H_OUTPUT_NOW] = output
  end
  if expire_ms > 0 then hold[H_EXPIRE_MS], hold[H_TTL_MS] = expire_ms, ttl_ms end
  for _, entry in ipairs(entries) do
    -- Counters that live by use must outlive the hold.
    local counter = load_entry(prefix, entry, now)
    if exists(counter) then keep_alive(counter) end
  end
  hold[H_REVISION] = hold[H_REVISION] + 1
  note_change('extend', key, hold, deltas, '', 0)
  is_growing = true
  return {DONE, hold, values(entries, false)}
end

end
