-- Ends a hold, or books a part of it: commit and release.
--
-- Operation {'settle', hold key, verb, fingerprint, partial, sequence, amounts, target, retarget,
--            note}
--      verb        1 commit, 2 release
--      amounts     by meter; -1: what is still held, or was at expiry: nothing better is known
--      target      what was used; '' where no budget depends on it
--      retarget    0, or {counters that do not count this target, entries that do as well}
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
    if partial == 1 and state == STATE_EXPIRED then return EXPIRED end
    if partial == 1 and sequence ~= hold[H_SEQUENCE] + 1 then return OUT_OF_SEQUENCE end
    if target ~= '' and target ~= hold[H_TARGET] and retarget == 0 then return OTHER_TARGET end
  end
  return nil
end

-- What this call books on an entry.
local function amount_of(hold, entry, amounts, verb, dropped)
  if verb == RELEASE or has_flag(entry[E_FLAGS], FLAG_RETURNED) then return 0 end
  if dropped then
    if dropped[entry[E_COUNTER]] then return 0 end
  elseif has_flag(entry[E_FLAGS], FLAG_ADDED) then
    return 0  -- an earlier part used the other target, this one uses the granted one
  end
  local amount = amounts[entry[E_METER]] or 0
  if amount >= 0 then return amount end
  return hold[H_STATE] == STATE_EXPIRED and entry[E_RESERVED] or entry[E_HELD]
end

-- may_begin: its window is open, so that its counter may begin with this.
local function settle_entry(entry, amount, partial, may_begin)
  local counter = load_entry(prefix, entry, now)
  local returned = partial and math.min(entry[E_HELD], amount) or entry[E_HELD]
  local overage = math.max(0, amount - entry[E_HELD] - entry[E_BOOKED])
  -- A counter that is gone has no window to book into any more; the journal has the amounts.
  if exists(counter) or may_begin then
    if may_begin then begin_if_idle(counter, now) end
    if returned ~= 0 then add_held(counter, -returned) end
    -- What expiry charged is replaced, never added to.
    add_committed(counter, entry[E_SLOT], amount - entry[E_BOOKED])
  end
  local committed = amount - entry[E_BOOKED]
  entry[E_HELD], entry[E_BOOKED] = entry[E_HELD] - returned, 0
  return {amount, overage, counter, -returned, committed}
end

-- Adds the counters of another target than the granted one, in the window of the reservation.
local function add_entries(hold, entries)
  for _, entry in ipairs(entries) do
    local counter = load_counter(prefix .. entry[E_COUNTER], entry[E_KIND], entry[E_TTL_MS],
      entry[E_P1], entry[E_P2], now)
    entry[E_SLOT] = counter.idle and now or counter.slot
    if counter.kind == KIND_ROLLING then
      entry[E_SLOT] = math.floor(hold[H_CREATE_MS] / counter.p1)
    end
    hold[H_ENTRIES][#hold[H_ENTRIES] + 1] = entry
  end
end

verbs.settle = function(operation)
  local key = KEYS[operation[2]]
  local verb, fingerprint, partial, sequence = unpack(operation, 3, 6)
  local amounts, target, retarget, note = unpack(operation, 7, 10)
  local hold = find_hold(key)
  if not hold then return {NOT_FOUND} end
  local code = refusal(hold, verb, fingerprint, partial, sequence, target, retarget)
  if code then return {code, hold} end

  local dropped, known = nil, #hold[H_ENTRIES]
  if retarget ~= 0 then
    dropped = retarget[1]
    add_entries(hold, retarget[2])
  end
  local due = {}
  for position, entry in ipairs(hold[H_ENTRIES]) do
    due[position] = amount_of(hold, entry, amounts, verb, dropped)
    if not can_add(load_entry(prefix, entry, now), due[position]) then return {OVERFLOW, hold} end
  end
  -- A server whose clock is a little ahead may have ended it before this one's time.
  local over = hold[H_STATE] == STATE_EXPIRED or now >= hold[H_EXPIRE_MS]
  local settled, late = {}, over and 1 or 0
  for position, entry in ipairs(hold[H_ENTRIES]) do
    settled[position] = settle_entry(entry, due[position], partial == 1, position > known)
  end
  local deltas = {}
  hold[H_SETTLED] = {}
  for _, one in ipairs(settled) do
    deltas[#deltas + 1], deltas[#deltas + 2], deltas[#deltas + 3] = one[4], one[5], 0
    local list, counter = hold[H_SETTLED], one[3]
    list[#list + 1] = one[1]
    list[#list + 1] = one[2]
    list[#list + 1] = counter.committed
    list[#list + 1] = counter.held
    list[#list + 1] = counter.credit
  end
  hold[H_SETTLE_FINGERPRINT], hold[H_SETTLE_MS] = fingerprint, now
  hold[H_CHARGES], hold[H_LATE] = amounts, late
  hold[H_REVISION] = hold[H_REVISION] + 1
  if partial == 1 then
    hold[H_SEQUENCE], hold[H_EXPIRE_MS] = sequence, now + hold[H_TTL_MS]
  else
    local nothing_used = verb == RELEASE and hold[H_SEQUENCE] == 0
    hold[H_STATE] = nothing_used and STATE_RELEASED or STATE_COMMITTED
  end
  local event = verb == RELEASE and 'release' or partial == 1 and 'commit_partial' or 'commit'
  note_change(event, key, hold, deltas, note, partial == 1 and 0 or keep[1])
  return {DONE, hold}
end

end
