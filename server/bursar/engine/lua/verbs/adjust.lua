-- Books what no call used: credits for a time, what a new budget starts with, corrections.
--
-- Operation {'adjust', hold key, fingerprint, expire_ms, payload, uses, note}
--      expire_ms   when the credit is taken back; 0: it stays for as long as its counter
--      uses        {counter, slot, committed, credit, meter} for each counter, flat; slot -1: now
-- Result {code, hold, {committed, held, credit, ...}}
--      1 done, 2 done before with the same content, 3 the id is another adjustment's (without
--      counters), 7 a counter would overflow (without a hold)
-- Keeps: an id adjusts once.

do

local DONE, REPEATED, REUSED, OVERFLOW = 1, 2, 3, 7
local USE_WIDTH = 5

local function values_of(uses)
  local values = {}
  for position = 1, #uses, USE_WIDTH do
    local counter = counter_at(uses[position])
    values[#values + 1] = committed_of(counter)
    values[#values + 1] = counter.held
    values[#values + 1] = counter.credit
  end
  return values
end

verbs.adjust = function(operation)
  local key = KEYS[operation[2]]
  local fingerprint, expire_ms, payload, uses, note = unpack(operation, 3, 7)
  local hold = find_hold(key)
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
    begin_if_idle(counter, now)
    if slot < 0 then slot = counter.slot end
    add_committed(counter, slot, committed)
    if credit ~= 0 then add_credit(counter, credit) end
    entries[#entries + 1] = {
      counter.name, counter.kind, counter.ttl_ms, counter.p1,
      counter.p2, slot, uses[position + 4], 0, 0, credit, 0,
    }
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = 0, committed, credit
  end
  hold = {
    expire_ms > 0 and STATE_CREDIT or STATE_ADJUSTED, fingerprint, expire_ms, 0, 0, 0, now,
    payload, '', entries, {}, fingerprint, now, {}, {}, 0, 0, 1, 0,
  }
  local kept_ms = hold[H_STATE] == STATE_CREDIT and 0 or keep[2]
  note_change('adjust', key, hold, deltas, note, kept_ms)
  is_growing = true
  return {DONE, hold, values_of(uses)}
end

end
