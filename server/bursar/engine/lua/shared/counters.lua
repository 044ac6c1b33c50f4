-- Shared: counters, read once and written once in a call.
--
-- A counter is a hash: c committed, h held, k credit; a rolling one has also its committed
-- amounts by time bucket (b<index>) and the oldest bucket that c includes (o); a task's has the
-- time it was last used (s) and the time it began (w).
-- kind 0 plain, p1 = 1 where its time to live starts anew with each write; 1 rolling, p1 = bucket
-- length in ms, p2 = whole buckets in a window; 2 task, p1 = idle time in ms after which it begins
-- anew.

local KIND_PLAIN, KIND_ROLLING, KIND_TASK = 0, 1, 2

-- Sums of whole numbers are exact in a double up to here.
local EXACT_MAX = 2 ^ 53
-- Nothing may be added to a counter past this: HINCRBY would fail at 2^63, after other writes.
local COUNTER_MAX = 2 ^ 62

-- Fields of a counter that are written as numbers, and what has been added to them in this call.
local AMOUNTS = {{'c', 'committed', 'add_c'}, {'h', 'held', 'add_h'}, {'k', 'credit', 'add_k'}}

local loaded = {}

-- Buckets before this index have left the rolling window. The oldest one in it counts whole.
local function oldest_bucket(counter, now)
  return math.floor(now / counter.p1) - counter.p2
end

-- rolling: oldest: first bucket that c includes; moved: that has changed; dropped: what has left
-- it; drop, drop_amounts: in which buckets; added: what this call adds, by bucket.
local function open_rolling(counter, oldest_text, now)
  local oldest = oldest_bucket(counter, now)
  local rolling = {
    oldest = tonumber(oldest_text or nil) or oldest, moved = false, dropped = 0, drop = {},
    drop_amounts = {}, added = {},
  }
  counter.rolling = rolling
  if rolling.oldest < oldest then
    -- No bucket lies further from the oldest than one window, so this is bounded by p2 + 1.
    for index = rolling.oldest, math.min(oldest - 1, rolling.oldest + counter.p2) do
      rolling.drop[#rolling.drop + 1] = 'b' .. index
    end
    rolling.drop_amounts = redis.call('HMGET', counter.key, unpack(rolling.drop))
    for _, amount in ipairs(rolling.drop_amounts) do
      rolling.dropped = rolling.dropped + tonumber(amount or 0)
    end
    counter.committed = counter.committed - rolling.dropped
    rolling.oldest, rolling.moved = oldest, true
  end
  counter.slot = math.max(math.floor(now / counter.p1), rolling.oldest)
end

local function load_counter(key, kind, ttl_ms, p1, p2, now)
  local counter = loaded[key]
  if counter then return counter end
  local field
  if kind == KIND_PLAIN then
    field = redis.call('HMGET', key, 'c', 'h', 'k')
  else
    field = redis.call('HMGET', key, 'c', 'h', 'k', 'o', 's', 'w')
  end
  -- As many fields as fit without the table growing: each call loads many.
  counter = {
    key = key, name = false, kind = kind, ttl_ms = ttl_ms, p1 = p1, p2 = p2,
    stored = field[2] and true or false, dirty = false, idle = false, slot = 0,
    committed = tonumber(field[1] or 0), held = tonumber(field[2] or 0),
    credit = tonumber(field[3] or 0), add_c = 0, add_h = 0, rolling = false,
  }
  if kind == KIND_ROLLING then
    open_rolling(counter, field[4], now)
  elseif kind == KIND_TASK then
    counter.slot = tonumber(field[6] or now)
    counter.idle = field[5] and now - tonumber(field[5]) > p1 and counter.held == 0
  end
  loaded[key] = counter
  return counter
end

-- True where it is in Redis, or will be after this call.
local function exists(counter)
  return counter.stored or counter.dirty
end

-- What a counter has committed for new work: nothing where nobody used a task for so long that it
-- is a new one under the same name.
local function committed_of(counter)
  return counter.idle and 0 or counter.committed
end

-- Writes a counter although no amount of it changes: who uses it keeps it alive. From here on it
-- is there and in use, as the operations that follow would find it.
local function keep_alive(counter)
  counter.dirty, counter.idle = true, false
end

-- Lets new work begin a task anew where it is idle. What settles never does: it continues it.
local function begin_if_idle(counter, now)
  if not counter.idle then return end
  counter.committed, counter.slot, counter.anew, counter.idle = 0, now, true, false
end

-- True where what was reserved in `slot` still belongs to what the counter counts now.
local function counts(counter, slot)
  if counter.kind == KIND_ROLLING then return slot >= counter.rolling.oldest end
  if counter.kind == KIND_TASK then return slot == counter.slot end
  return true
end

-- Notes an amount to add: as a sum while that is exact, else what came before it by itself.
local function note(counter, name, field, amount)
  local sum = counter[name] or 0
  if math.abs(sum + amount) > EXACT_MAX then
    counter.apart = counter.apart or {}
    counter.apart[#counter.apart + 1] = {field, sum}
    sum = 0
  end
  counter[name] = sum + amount
  keep_alive(counter)
end

local function add_held(counter, amount)
  counter.held = counter.held + amount
  note(counter, 'add_h', 'h', amount)
end

local function add_credit(counter, amount)
  counter.credit = counter.credit + amount
  note(counter, 'add_k', 'k', amount)
end

local function can_add(counter, amount)
  return counter.committed + amount <= COUNTER_MAX
end

local function add_committed(counter, slot, amount)
  keep_alive(counter)
  if amount == 0 or not counts(counter, slot) then return end
  counter.committed = counter.committed + amount
  note(counter, 'add_c', 'c', amount)
  if counter.kind == KIND_ROLLING then
    local added, name = counter.rolling.added, 'b' .. slot
    added[name] = added[name] or {}
    added[name][#added[name] + 1] = amount
  end
end

-- Adds an amount to a field. Adding 0 makes of -0, which Redis refuses, a 0.
local function write_difference(key, field, amount)
  if amount ~= 0 then redis.call('HINCRBY', key, field, amount + 0) end
end

-- Takes what has left a rolling window off its committed amount, bucket by bucket as the text that
-- Redis keeps: for where a double does not hold the sum.
local function write_dropped(key, rolling)
  for _, amount in ipairs(rolling.drop_amounts) do
    if amount and amount ~= '0' then
      local negated = string.sub(amount, 1, 1) == '-' and string.sub(amount, 2) or '-' .. amount
      redis.call('HINCRBY', key, 'c', negated)
    end
  end
end

-- Writes the amounts as differences, which stay exact in Redis also where a double does not hold
-- what they come to.
local function write_differences(key, counter)
  if counter.rolling then write_dropped(key, counter.rolling) end
  for _, part in ipairs(counter.apart or {}) do write_difference(key, part[1], part[2]) end
  for _, amount in ipairs(AMOUNTS) do
    write_difference(key, amount[1], counter[amount[3]] or 0)
  end
  -- A counter exists from the moment that it has a held amount, if only 0.
  if not counter.stored then redis.call('HINCRBY', key, 'h', 0) end
end

local function is_exact(counter)
  if counter.apart then return false end
  for _, amount in ipairs(AMOUNTS) do
    local value, added = counter[amount[2]], counter[amount[3]] or 0
    if math.abs(value) > EXACT_MAX or math.abs(value - added) > EXACT_MAX then return false end
  end
  return not counter.rolling or counter.committed - counter.add_c + counter.rolling.dropped <= EXACT_MAX
end

local function write_counter(key, counter, now)
  local rolling, fields = counter.rolling, {}
  if rolling and #rolling.drop > 0 then redis.call('HDEL', key, unpack(rolling.drop)) end
  if rolling and (rolling.moved or not counter.stored) then
    fields = {'o', rolling.oldest}
  elseif counter.kind == KIND_TASK then
    fields = {'s', now, 'w', counter.slot}
  end
  local exact = is_exact(counter)
  if counter.anew and not exact then redis.call('HSET', key, 'c', 0) end
  if exact then
    local moved = rolling and rolling.dropped ~= 0
    if counter.add_c ~= 0 or counter.anew or moved then
      fields[#fields + 1], fields[#fields + 2] = 'c', counter.committed + 0
    end
    if counter.add_h ~= 0 or not counter.stored then
      fields[#fields + 1], fields[#fields + 2] = 'h', counter.held + 0
    end
    if counter.add_k then fields[#fields + 1], fields[#fields + 2] = 'k', counter.credit + 0 end
  else
    write_differences(key, counter)
  end
  if #fields > 0 then redis.call('HSET', key, unpack(fields)) end
  for name, amounts in pairs(rolling and rolling.added or {}) do
    for _, amount in ipairs(amounts) do write_difference(key, name, amount) end
  end
  -- A calendar window's counter has a fixed end, so its time to live is set once.
  if counter.ttl_ms > 0 and (not counter.stored or counter.p1 > 0) then
    redis.call('PEXPIRE', key, counter.ttl_ms)
  end
end

-- Writes every counter that changed: what a double holds exactly as it comes to, with one command.
local function write_counters(now)
  for key, counter in pairs(loaded) do
    if counter.dirty then write_counter(key, counter, now) end
  end
end

-- What a denial needs to say when room comes back: the rolling window's amounts by bucket.
local function bucket_amounts(counter, now)
  if counter.kind ~= KIND_ROLLING or not exists(counter) then return {} end
  local names, found, oldest = {}, {}, counter.rolling.oldest
  for index = oldest, math.floor(now / counter.p1) do names[#names + 1] = 'b' .. index end
  if #names == 0 then return found end
  local amounts = redis.call('HMGET', counter.key, unpack(names))
  for position, name in ipairs(names) do
    local amount, added = amounts[position], counter.rolling.added[name]
    if amount or added then
      amount = tonumber(amount or 0)
      for _, more in ipairs(added or {}) do amount = amount + more end
      found[#found + 1] = {oldest + position - 1, amount}
    end
  end
  return found
end
