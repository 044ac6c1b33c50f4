-- Ends a hold, or books a part of it: commit and release.
--
-- Operation {'settle', numbers, fingerprint, charges, target, retarget, note}
--      numbers     verb (1 commit, 2 release), partial, sequence: a text of numbers (shared/texts)
--      charges     amounts by meter as MessagePack, kept as it is; -1: what is still held, or was
--                  at expiry: nothing better is known
--      target      what was used; '' where no budget depends on it
--      retarget    0, or {names of counters that do not count this target, descriptions of those
--                  that do as well, their entries}, these two as in a hold, with slot 0
--      note        kept in the journal as it is
-- Result {code, hold}
--      0 not found, 1 done, 2 done before with the same content, 3 ended otherwise before,
--      4 another target was used than granted: ask again with retarget, 5 out of sequence,
--      6 expired, 7 a counter would overflow
-- Keeps: a hold ends once, and once more where it comes late after expiry; held falls by exactly
-- what was held; the whole actual amount is booked.

do

local NOT_FOUND, DONE, REPEATED, ENDED = 0, 1, 2, 3
local OTHER_TARGET, OUT_OF_SEQUENCE, EXPIRED, OVERFLOW = 4, 5, 6, 7
local COMMIT, RELEASE = 1, 2

local function refusal(hold, verb, fingerprint, partial, sequence, target, retarget)
  local state = hold[H_STATE]
  if hold[H_SETTLE_FINGERPRINT] == fingerprint then return REPEATED end
  if state ~= STATE_OPEN and state ~= STATE_EXPIRED then return ENDED end
  if verb == COMMIT then
    if partial and state == STATE_EXPIRED then return EXPIRED end
    if partial and sequence ~= hold[H_SEQUENCE] + 1 then return OUT_OF_SEQUENCE end
    if target ~= '' and retarget == 0 and target ~= target_of(hold) then
      return OTHER_TARGET
    end
  end
  return nil
end

-- What this call books on an entry; at: where its numbers begin among those of the hold.
local function amount_of(hold, counter, entries, at, charges, dropped)
  local flags = entries[at + E_FLAGS]
  if flags ~= 0 and has_flag(flags, FLAG_RETURNED) then return 0 end
  if dropped then
    if dropped[string.sub(counter[C_KEY], #prefix + 1)] then return 0 end
  elseif flags ~= 0 and has_flag(flags, FLAG_ADDED) then
    return 0  -- an earlier part used the other target, this one uses the granted one
  end
  local amount = charges[counter[C_METER]] or 0
  if amount >= 0 then return amount end
  return entries[at + (hold[H_STATE] == STATE_EXPIRED and E_RESERVED or E_HELD)]
end

-- What an operation fills and packs; a table that grows anew each time costs more.
local due, settled, deltas = {}, {}, {}

-- may_begin: its window is open, so that its counter may begin with this.
local function settle_entry(number, counter, entries, at, partial, may_begin, expired)
  local amount, held, booked = due[number], entries[at + E_HELD], 0
  if expired and is_charged(entries[at + E_FLAGS]) then booked = entries[at + E_RESERVED] end
  local returned = partial and math.min(held, amount) or held
  local committed, overage = amount - booked, amount - held - booked
  -- A counter that is gone has no window to book into any more; the journal has the amounts.
  if counter[C_STORED] or counter[C_DIRTY] or may_begin then
    if may_begin then begin_if_idle(counter, now) end
    if returned ~= 0 then add_held(counter, -returned) end
    -- What expiry charged is replaced, never added to.
    add_committed(counter, entries[at + E_SLOT], committed)
  end
  entries[at + E_HELD] = held - returned
  local pair, five = 2 * (number - 1), 5 * (number - 1)
  deltas[pair + 1], deltas[pair + 2] = -returned, committed
  settled[five + 1], settled[five + 2] = amount, overage > 0 and overage or 0
  settled[five + 3], settled[five + 4] = counter[C_COMMITTED], counter[C_HELD]
  settled[five + 5] = counter[C_CREDIT]
end

-- Adds the counters of another target than the granted one, in the window of the reservation.
local function add_entries(hold, descriptions, added)
  local known = hold[H_ENTRIES_SIZE] / ENTRY_BYTES
  hold[H_FIXED] = hold[H_FIXED] .. descriptions
  hold[H_COUNTERS_SIZE] = hold[H_COUNTERS_SIZE] + #descriptions
  hold[H_ENTRIES] = hold[H_ENTRIES] .. added
  hold[H_ENTRIES_SIZE] = #hold[H_ENTRIES]
  local entries, counters, count = open_entries(prefix, hold, now)
  for number = known + 1, count do
    local counter = counters[number]
    local slot = counter[C_IDLE] and now or counter[C_SLOT]
    if counter[C_KIND] == KIND_ROLLING then slot = bucket_of(counter, hold[H_CREATE_MS]) end
    entries[ENTRY_WIDTH * (number - 1) + E_SLOT] = slot
  end
  return entries, counters, count, known
end

-- What a hold is after it was settled, or a part of it; returns what the journal calls that.
local function change(hold, verb, partial, sequence)
  hold[H_REVISION] = hold[H_REVISION] + 1
  if partial then
    hold[H_SEQUENCE], hold[H_EXPIRE_MS] = sequence, now + hold[H_TTL_MS]
    return 'commit_partial'
  end
  local nothing_used = verb == RELEASE and hold[H_SEQUENCE] == 0
  hold[H_STATE] = nothing_used and STATE_RELEASED or STATE_COMMITTED
  return verb == RELEASE and 'release' or 'commit'
end

verbs.settle = function(operation, key)
  local verb, partial, sequence = struct.unpack('<lll', operation[2])
  local fingerprint, target, retarget = operation[3], operation[5], operation[6]
  partial = partial == 1
  local hold = find_hold(key)
  if not hold then return {NOT_FOUND} end
  local code = refusal(hold, verb, fingerprint, partial, sequence, target, retarget)
  if code then return {code, texts[key]} end

  local dropped, entries, counters, count, known
  if retarget == 0 then
    entries, counters, count = open_entries(prefix, hold, now)
    known = count
  else
    dropped = retarget[1]
    entries, counters, count, known = add_entries(hold, retarget[2], retarget[3])
  end
  local charges = verb == COMMIT and cmsgpack.unpack(operation[4]) or {}
  for number = 1, count do
    local counter, at = counters[number], ENTRY_WIDTH * (number - 1)
    local amount = amount_of(hold, counter, entries, at, charges, dropped)
    if not can_add(counter, amount) then return {OVERFLOW, texts[key]} end
    due[number] = amount
  end
  local expired = hold[H_STATE] == STATE_EXPIRED
  for number = 1, count do
    local at = ENTRY_WIDTH * (number - 1)
    settle_entry(number, counters[number], entries, at, partial, number > known, expired)
  end
  -- A server whose clock is a little ahead may have ended it before this one's time.
  hold[H_LATE] = (expired or now >= hold[H_EXPIRE_MS]) and 1 or 0
  hold[H_ENTRIES] = pack_entries(entries, count)
  hold[H_SETTLED] = pack_longs(settled, 5 * count)
  hold[H_SETTLE_FINGERPRINT], hold[H_SETTLE_MS] = fingerprint, now
  hold[H_CHARGES] = operation[4]
  local event = change(hold, verb, partial, sequence)
  local added = pack_longs(deltas, 2 * count)
  return {DONE, note_change(event, key, hold, added, operation[7], partial and 0 or keep[1])}
end

end
