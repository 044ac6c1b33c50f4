-- Books usage that had no reservation. It is never refused for lack of room.
--
-- Operation {'record', fingerprint, payload, target, charges, uses, note}
--      charges     amounts by meter as MessagePack, kept as it is
--      uses        {counter, flags} for each counter, a text of numbers (shared/texts)
-- Result {code, hold}
--      1 done, 2 done before with the same content, 3 the request id is another request's,
--      7 a counter would overflow (without a hold)
-- Keeps: a request id books once.

do

local DONE, REPEATED, REUSED, OVERFLOW = 1, 2, 3, 7
local USE_WIDTH = 2

verbs.record = function(operation, key)
  local fingerprint, payload, target, charges = unpack(operation, 2, 5)
  local hold = find_hold(key)
  if hold then
    local same = hold[H_STATE] == STATE_RECORDED and fingerprint_of(hold) == fingerprint
    return {same and REPEATED or REUSED, texts[key]}
  end
  local by_meter, uses, size = cmsgpack.unpack(charges), unpack_longs(operation[6])
  for position = 1, size, USE_WIDTH do
    local counter = counter_at(uses[position])
    if not can_add(counter, by_meter[counter[C_METER]] or 0) then return {OVERFLOW} end
  end
  local descriptions, entries, settled, deltas = {}, {}, {}, {}
  for position = 1, size, USE_WIDTH do
    local index, flags = uses[position], uses[position + 1]
    local counter = counter_at(index)
    local amount = has_flag(flags, FLAG_RETURNED) and 0 or by_meter[counter[C_METER]] or 0
    begin_if_idle(counter, now)
    add_committed(counter, counter[C_SLOT], amount)
    descriptions[#descriptions + 1] = specs[index]
    for _, value in ipairs({flags, counter[C_SLOT], 0, 0}) do entries[#entries + 1] = value end
    for _, value in ipairs({0, amount}) do deltas[#deltas + 1] = value end
    for _, value in ipairs({amount, 0, counter[C_COMMITTED], counter[C_HELD], counter[C_CREDIT]}) do
      settled[#settled + 1] = value
    end
  end
  local counters = table.concat(descriptions)
  hold = {
    fingerprint .. payload .. target .. counters, pack_entries(entries, #descriptions), fingerprint,
    pack_longs(settled, #settled), charges, STATE_RECORDED, 0, 0, 0, 0, now, 0, 0, 0, 1, now,
    #fingerprint, #payload, #target, 0, #counters,
  }
  local added = pack_longs(deltas, #deltas)
  is_growing = true
  return {DONE, note_change('record', key, hold, added, operation[7], keep[1])}
end

end
