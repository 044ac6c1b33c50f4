-- Shared: counters, read once and written once in a call.
--
-- A counter is a hash: c committed, h held, k credit; a rolling one has also its committed
-- amounts by time bucket (b<index>) and the oldest bucket that c includes (o); a task's has the
-- time it was last used (s) and the time it began (w). Where p1 > 0, its time to live starts anew
-- with each write, and e is when it did last.
-- kind 0 plain, p1 = 1 where its time to live starts anew with each write; 1 rolling, p1 = bucket
-- length in ms, p2 = whole buckets in a window; 2 task, p1 = idle time in ms after which it begins
-- anew.
--
-- A counter's description says all that is the same in each of its uses: kind, time to live in ms
-- (0: none), p1, p2, meter and name within the shard, as MessagePack values one after another.

local KIND_PLAIN, KIND_ROLLING, KIND_TASK = 0, 1, 2

-- Sums of whole numbers are exact in a double up to here.
local EXACT_MAX = 2 ^ 53
-- Nothing may be added to a counter past this: HINCRBY would fail at 2^63, after other writes.
local COUNTER_MAX = 2 ^ 62

-- A time to live that starts anew does so when it is this old, and is this much longer for it.
local RENEWED_AFTER_MS = 3600000

-- A counter while a script has it: a list, which is made faster than a table with names.
-- stored: it is in Redis; renews: its time to live is to start; add_*: what this call adds to its
-- amounts as sums, and apart: what these could not hold, {field, amount} (or false: none)
local C_KEY, C_KIND, C_TTL_MS, C_P1, C_P2, C_METER, C_STORED, C_RENEWS = 1, 2, 3, 4, 5, 6, 7, 8
local C_COMMITTED, C_HELD, C_CREDIT, C_ADD_C, C_ADD_H, C_ADD_K, C_APART = 9, 10, 11, 12, 13, 14, 15
-- dirty: it is to be written; idle: nobody used a task for so long that new work begins it anew;
-- anew: it has; slot: what is reserved now is of; begins: that is to be written
local C_DIRTY, C_IDLE, C_ANEW, C_SLOT, C_BEGINS, C_ROLLING = 16, 17, 18, 19, 20, 21

-- By key, and by description: a counter has several where its time to live differs.
local loaded, described = {}, {}

-- The bucket that a time is in: a whole number.
local function bucket_of(counter, time_ms)
  return (time_ms - time_ms % counter[C_P1]) / counter[C_P1]
end

-- Notes what is in buckets that have left a window; most are not there.
local function read_dropped(rolling, amounts, names)
  for position, amount in ipairs(amounts) do
    if amount then
      local drop, drop_amounts = rolling.drop or {}, rolling.drop_amounts or {}
      drop[#drop + 1], drop_amounts[#drop_amounts + 1] = names[position], amount
      rolling.drop, rolling.drop_amounts = drop, drop_amounts
      rolling.dropped = rolling.dropped + amount
    end
  end
end

-- rolling: oldest: first bucket that c includes; moved: that has changed; dropped: what has left
-- it; drop, drop_amounts: in which buckets; added: what this call adds, {bucket, amount, ...}.
-- Buckets before `oldest` have left the window. The oldest one in it counts whole.
local function open_rolling(counter, oldest_text, now)
  local newest = bucket_of(counter, now)
  local oldest = newest - counter[C_P2]
  local rolling = {oldest = oldest_text and oldest_text + 0 or oldest, moved = false, dropped = 0}
  counter[C_ROLLING] = rolling
  if rolling.oldest < oldest then
    local names = {}
    -- No bucket lies further from the oldest than one window, so this is bounded by p2 + 1.
    for index = rolling.oldest, math.min(oldest - 1, rolling.oldest + counter[C_P2]) do
      names[#names + 1] = 'b' .. index
    end
    read_dropped(rolling, redis.call('HMGET', counter[C_KEY], unpack(names)), names)
    counter[C_COMMITTED] = counter[C_COMMITTED] - rolling.dropped
    rolling.oldest, rolling.moved = oldest, true
  end
  counter[C_SLOT] = newest > rolling.oldest and newest or rolling.oldest
end

-- The arguments after the first two are those of its description.
local function load_counter(key, now, kind, ttl_ms, p1, p2, meter)
  local field
  if p1 == 0 then
    field = redis.call('HMGET', key, 'c', 'h', 'k')
  elseif kind == KIND_TASK then
    field = redis.call('HMGET', key, 'c', 'h', 'k', 'e', 'w', 's')
  else
    field = redis.call('HMGET', key, 'c', 'h', 'k', 'e', 'o')
  end
  local committed, held, credit, renewed_ms = field[1], field[2], field[3], field[4]
  local renews = p1 > 0
    and (not renewed_ms or math.abs(now - renewed_ms) > RENEWED_AFTER_MS)
  local counter = {
    key, kind, ttl_ms, p1, p2, meter, held and true or false, renews or not held,
    committed and committed + 0 or 0, held and held + 0 or 0, credit and credit + 0 or 0,
    0, 0, false, false, false, false, false, 0, false, false,
  }
  if kind == KIND_ROLLING then
    open_rolling(counter, field[5], now)
  elseif kind == KIND_TASK then
    local began_ms, used_ms = field[5], field[6]
    counter[C_SLOT], counter[C_BEGINS] = began_ms and began_ms + 0 or now, not began_ms
    counter[C_IDLE] = used_ms and now - used_ms > p1 and counter[C_HELD] == 0
  end
  loaded[key] = counter
  return counter
end

-- The counter of a key that comes with its description.
local function named_counter(key, description, now)
  local kind, ttl_ms, p1, p2, meter = cmsgpack.unpack(description)
  local counter = loaded[key] or load_counter(key, now, kind, ttl_ms, p1, p2, meter)
  counter[C_TTL_MS] = ttl_ms  -- Not that of an older hold, which may have loaded it.
  return counter
end

-- The counter of a description that a hold has kept.
local function described_counter(prefix, description, now)
  local kind, ttl_ms, p1, p2, meter, name = cmsgpack.unpack(description)
  local key = prefix .. name
  local counter = loaded[key] or load_counter(key, now, kind, ttl_ms, p1, p2, meter)
  described[description] = counter
  return counter
end

-- True where it is in Redis, or will be after this call.
local function exists(counter)
  return counter[C_STORED] or counter[C_DIRTY]
end

-- What a counter has committed for new work: nothing where nobody used a task for so long that it
-- is a new one under the same name.
local function committed_of(counter)
  return counter[C_IDLE] and 0 or counter[C_COMMITTED]
end

-- Writes a counter although no amount of it changes: who uses it keeps it alive. From here on it
-- is there and in use, as the operations that follow would find it.
local function keep_alive(counter)
  counter[C_DIRTY], counter[C_IDLE] = true, false
end

-- Lets new work begin a task anew where it is idle. What settles never does: it continues it.
local function begin_if_idle(counter, now)
  if not counter[C_IDLE] then return end
  counter[C_COMMITTED], counter[C_SLOT], counter[C_ANEW], counter[C_IDLE] = 0, now, true, false
  counter[C_BEGINS] = true
end

-- True where what was reserved in `slot` still belongs to what the counter counts now.
local function counts(counter, slot)
  if counter[C_KIND] == KIND_ROLLING then return slot >= counter[C_ROLLING].oldest end
  if counter[C_KIND] == KIND_TASK then return slot == counter[C_SLOT] end
  return true
end

-- Sets aside what is to be added to a field so far, where the sum with more is not exact.
local function set_apart(counter, field, sum, amount)
  counter[C_APART] = counter[C_APART] or {}
  counter[C_APART][#counter[C_APART] + 1] = {field, sum}
  return amount
end

local function add_held(counter, amount)
  local sum = counter[C_ADD_H] + amount
  if sum > EXACT_MAX or sum < -EXACT_MAX then
    sum = set_apart(counter, 'h', counter[C_ADD_H], amount)
  end
  counter[C_HELD], counter[C_ADD_H] = counter[C_HELD] + amount, sum
  counter[C_DIRTY], counter[C_IDLE] = true, false
end

local function add_credit(counter, amount)
  local before = counter[C_ADD_K] or 0
  local sum = before + amount
  if math.abs(sum) > EXACT_MAX then sum = set_apart(counter, 'k', before, amount) end
  counter[C_CREDIT], counter[C_ADD_K] = counter[C_CREDIT] + amount, sum
  keep_alive(counter)
end

local function can_add(counter, amount)
  return counter[C_COMMITTED] + amount <= COUNTER_MAX
end

local function add_committed(counter, slot, amount)
  counter[C_DIRTY], counter[C_IDLE] = true, false
  if amount == 0 or counter[C_KIND] ~= KIND_PLAIN and not counts(counter, slot) then return end
  local sum = counter[C_ADD_C] + amount
  if sum > EXACT_MAX or sum < -EXACT_MAX then
    sum = set_apart(counter, 'c', counter[C_ADD_C], amount)
  end
  counter[C_COMMITTED], counter[C_ADD_C] = counter[C_COMMITTED] + amount, sum
  local rolling = counter[C_ROLLING]
  if rolling then
    local added = rolling.added or {}
    added[#added + 1], added[#added + 2] = slot, amount
    rolling.added = added
  end
end

-- A number as Redis keeps it. Of a number itself Redis makes a text much more slowly.
local function whole(number)
  return string.format('%d', number)
end

local function write_difference(key, field, amount)
  if amount ~= 0 then redis.call('HINCRBY', key, field, whole(amount)) end
end

-- Takes what has left a rolling window off its committed amount, bucket by bucket as the text that
-- Redis keeps: for where a double does not hold the sum.
local function write_dropped(key, rolling)
  for _, amount in ipairs(rolling.drop_amounts or {}) do
    if amount and amount ~= '0' then
      local negated = string.sub(amount, 1, 1) == '-' and string.sub(amount, 2) or '-' .. amount
      redis.call('HINCRBY', key, 'c', negated)
    end
  end
end

-- Writes the amounts as differences, which stay exact in Redis also where a double does not hold
-- what they come to.
local function write_differences(key, counter)
  if counter[C_ROLLING] then write_dropped(key, counter[C_ROLLING]) end
  for _, part in ipairs(counter[C_APART] or {}) do write_difference(key, part[1], part[2]) end
  write_difference(key, 'c', counter[C_ADD_C])
  write_difference(key, 'h', counter[C_ADD_H])
  write_difference(key, 'k', counter[C_ADD_K] or 0)
  -- A counter exists from the moment that it has a held amount, if only 0.
  if not counter[C_STORED] then redis.call('HINCRBY', key, 'h', 0) end
end

-- Whether a double holds a sum, and what it was before this call added to it.
local function fits(value, added)
  local before = value - added
  return value <= EXACT_MAX and value >= -EXACT_MAX and before <= EXACT_MAX and before >= -EXACT_MAX
end

local function is_exact(counter)
  if counter[C_APART] or not fits(counter[C_HELD], counter[C_ADD_H]) then return false end
  if not fits(counter[C_COMMITTED], counter[C_ADD_C]) then return false end
  if counter[C_ADD_K] and not fits(counter[C_CREDIT], counter[C_ADD_K]) then return false end
  local rolling = counter[C_ROLLING]
  return not rolling or counter[C_COMMITTED] - counter[C_ADD_C] + rolling.dropped <= EXACT_MAX
end

-- Names and values to write; one table for all counters, as each is written at once.
local fields = {}

-- Lists fields of a counter that are not amounts, and returns how many places they take.
local function list_times(counter, now_text)
  local count, rolling = 0, counter[C_ROLLING]
  if counter[C_RENEWS] and counter[C_P1] > 0 then
    fields[1], fields[2], count = 'e', now_text, 2
  end
  if rolling and (rolling.moved or not counter[C_STORED]) then
    fields[count + 1], fields[count + 2], count = 'o', whole(rolling.oldest), count + 2
  end
  if rolling and not counter[C_STORED] and not counter[C_ADD_K] then
    -- What is not there is looked for among all buckets.
    fields[count + 1], fields[count + 2], count = 'k', '0', count + 2
  end
  if counter[C_KIND] == KIND_TASK then
    fields[count + 1], fields[count + 2], count = 's', now_text, count + 2
    if counter[C_BEGINS] then
      fields[count + 1], fields[count + 2], count = 'w', whole(counter[C_SLOT]), count + 2
    end
  end
  return count
end

-- Lists amounts as they come to behind other fields, and returns how many places all take.
local function list_amounts(counter, count)
  local rolling = counter[C_ROLLING]
  if counter[C_ADD_C] ~= 0 or counter[C_ANEW] or rolling and rolling.dropped ~= 0 then
    fields[count + 1], fields[count + 2] = 'c', whole(counter[C_COMMITTED])
    count = count + 2
  end
  if counter[C_ADD_H] ~= 0 or not counter[C_STORED] then
    fields[count + 1], fields[count + 2] = 'h', whole(counter[C_HELD])
    count = count + 2
  end
  if counter[C_ADD_K] then
    fields[count + 1], fields[count + 2] = 'k', whole(counter[C_CREDIT])
    count = count + 2
  end
  return count
end

local function write_counter(key, counter, now_text)
  local rolling = counter[C_ROLLING]
  if rolling and rolling.drop then redis.call('HDEL', key, unpack(rolling.drop)) end
  local count = list_times(counter, now_text)
  if is_exact(counter) then
    count = list_amounts(counter, count)
  else
    if counter[C_ANEW] then redis.call('HSET', key, 'c', 0) end
    write_differences(key, counter)
  end
  if count > 0 then redis.call('HSET', key, unpack(fields, 1, count)) end
  local added = rolling and rolling.added
  for at = 1, added and #added or 0, 2 do
    write_difference(key, 'b' .. added[at], added[at + 1])
  end
  -- A calendar window's counter has a fixed end, so its time to live is set once.
  if counter[C_RENEWS] and counter[C_TTL_MS] > 0 then
    local longer_ms = counter[C_P1] > 0 and RENEWED_AFTER_MS or 0
    redis.call('PEXPIRE', key, whole(counter[C_TTL_MS] + longer_ms))
  end
end

-- Writes every counter that changed: what a double holds exactly as it comes to, with one command.
local function write_counters(now)
  local now_text = whole(now)
  for key, counter in pairs(loaded) do
    if counter[C_DIRTY] then write_counter(key, counter, now_text) end
  end
end

-- What a denial needs to say when room comes back: the rolling window's amounts by bucket.
local function bucket_amounts(counter, now)
  if counter[C_KIND] ~= KIND_ROLLING or not exists(counter) then return {} end
  local names, found, oldest = {}, {}, counter[C_ROLLING].oldest
  for index = oldest, bucket_of(counter, now) do names[#names + 1] = 'b' .. index end
  if #names == 0 then return found end
  local amounts, added = redis.call('HMGET', counter[C_KEY], unpack(names)), {}
  for at = 1, #(counter[C_ROLLING].added or {}), 2 do
    local slot, amount = counter[C_ROLLING].added[at], counter[C_ROLLING].added[at + 1]
    added[slot] = (added[slot] or 0) + amount
  end
  for position, amount in ipairs(amounts) do
    local slot = oldest + position - 1
    if amount or added[slot] then
      found[#found + 1] = {slot, tonumber(amount or 0) + (added[slot] or 0)}
    end
  end
  return found
end
