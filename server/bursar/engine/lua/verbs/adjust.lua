-- Books what no call used: credits for a time, what a new budget starts with, corrections.
--
-- Operation {'adjust', fingerprint, expire_ms, payload, uses, note}
--      expire_ms   when the credit is taken back; 0: it stays for as long as its counter
--      uses        {counter, slot, committed, credit} for each counter, a text of numbers
--                  (shared/texts); slot -1: now
-- Result {code, hold, {committed, held, credit, ...}}
--      1 done, 2 done before with the same content, 3 the id is another adjustment's (without
--      counters), 7 a counter would overflow (without a hold)
-- Keeps: an id adjusts once.

do

local DONE, REPEATED, REUSED, OVERFLOW = 1, 2, 3, 7
local USE_WIDTH = 4

local function values_of(uses, size)
  local values = {}
  for position = 1, size, USE_WIDTH do
    local counter = counter_at(uses[position])
    values[#values + 1] = committed_of(counter)
    values[#values + 1] = counter[C_HELD]
    values[#values + 1] = counter[C_CREDIT]
  end
  return values
end

verbs.adjust = function(operation, key)
  local fingerprint, expire_ms, payload, _, note = unpack(operation, 2, 6)
  local uses, size = unpack_longs(operation[5])
  local hold = find_hold(key)
  if hold then
    local state = hold[H_STATE]
    local same = (state == STATE_CREDIT or state == STATE_ADJUSTED)
      and fingerprint_of(hold) == fingerprint
    if same then return {REPEATED, texts[key], values_of(uses, size)} end
    return {REUSED, texts[key]}
  end
  for position = 1, size, USE_WIDTH do
    local counter = counter_at(uses[position])
    if not can_add(counter, uses[position + 2]) or math.abs(counter[C_CREDIT] + uses[position + 3])
        > COUNTER_MAX then
      return {OVERFLOW}
    end
  end
  local descriptions, entries, deltas = {}, {}, {}
  for position = 1, size, USE_WIDTH do
    local index, slot, committed, credit = unpack(uses, position, position + 3)
    local counter = counter_at(index)
    begin_if_idle(counter, now)
    if slot < 0 then slot = counter[C_SLOT] end
    add_committed(counter, slot, committed)
    if credit ~= 0 then add_credit(counter, credit) end
    descriptions[#descriptions + 1] = specs[index]
    for _, value in ipairs({0, slot, 0, credit}) do entries[#entries + 1] = value end
    for _, value in ipairs({0, committed, credit}) do deltas[#deltas + 1] = value end
  end
  local counters = table.concat(descriptions)
  local state = expire_ms > 0 and STATE_CREDIT or STATE_ADJUSTED
  hold = {
    fingerprint .. payload .. counters, pack_entries(entries, #descriptions), fingerprint, '', '',
    state, 0, 0, expire_ms, 0, now, 0, 0, 0, 1, now, #fingerprint, #payload, 0, 0, #counters,
  }
  local kept_ms = state == STATE_CREDIT and 0 or keep[2]
  local text = note_change('adjust', key, hold, pack_longs(deltas, #deltas), note, kept_ms)
  is_growing = true
  return {DONE, text, values_of(uses, size)}
end

end
