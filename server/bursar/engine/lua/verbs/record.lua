-- Books usage that had no reservation. It is never refused for lack of room.
--
-- Operation {'record', hold key, fingerprint, payload, target, amounts, uses, note}
--      amounts     by meter
--      uses        {counter, meter, flags} for each counter, flat
-- Result {code, hold}
--      1 done, 2 done before with the same content, 3 the request id is another request's,
--      7 a counter would overflow (without a hold)
-- Keeps: a request id books once.

do

local DONE, REPEATED, REUSED, OVERFLOW = 1, 2, 3, 7
local USE_WIDTH = 3

verbs.record = function(operation)
  local key = KEYS[operation[2]]
  local fingerprint, payload, target, amounts, uses, note = unpack(operation, 3, 8)
  local hold = find_hold(key)
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
    begin_if_idle(counter, now)
    add_committed(counter, counter.slot, amount)
    entries[#entries + 1] = {
      counter.name, counter.kind, counter.ttl_ms, counter.p1,
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
  note_change('record', key, hold, deltas, note, keep[1])
  is_growing = true
  return {DONE, hold}
end

end
