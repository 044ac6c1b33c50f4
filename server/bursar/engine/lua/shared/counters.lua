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

local loaded = {}

-- Buckets before this index have left the rolling window. The oldest one in it counts whole.
local function oldest_bucket(counter, now)
  return math.floor(now / counter.p1) - counter.p2
end

local function forget_old_buckets(counter, now)
  local oldest = oldest_bucket(counter, now)
  counter.oldest = counter.oldest or oldest
  if counter.oldest >= oldest then return end
  -- No bucket lies further from the oldest than one window, so this is bounded by p2 + 1.
  for index = counter.oldest, math.min(oldest - 1, counter.oldest + counter.p2) do
    counter.drop[#counter.drop + 1] = 'b' .. index
  end
  counter.drop_amounts = redis.call('HMGET', counter.key, unpack(counter.drop))
  for _, amount in ipairs(counter.drop_amounts) do
    counter.dropped = counter.dropped + tonumber(amount or 0)
  end
  counter.committed = counter.committed - counter.dropped
  counter.oldest, counter.moved = oldest, true
end

local function load_counter(key, kind, ttl_ms, p1, p2, now)
  local counter = loaded[key]
  if counter then return counter end
  local field = redis.call('HMGET', key, 'c', 'h', 'k', 'o', 's', 'w')
  counter = {
    key = key, kind = kind, ttl_ms = ttl_ms, p1 = p1, p2 = p2,
    stored = field[2] and true or false, exists = field[2] and true or false,
    committed = tonumber(field[1] or 0), held = tonumber(field[2] or 0),
    credit = tonumber(field[3] or 0),
    dropped = 0, drop = {}, added = {},
  }
  if kind == KIND_ROLLING then
    counter.oldest = tonumber(field[4] or nil)
    forget_old_buckets(counter, now)
    counter.slot = math.max(math.floor(now / p1), counter.oldest)
  elseif kind == KIND_TASK then
    counter.slot = tonumber(field[6] or now)
    counter.idle = field[5] and now - tonumber(field[5]) > p1 and counter.held == 0
  else
    counter.slot = 0
  end
  loaded[key] = counter
  return counter
end

-- What a counter has committed for new work: nothing where nobody used a task for so long that it
-- is a new one under the same name.
local function committed_of(counter)
  return counter.idle and 0 or counter.committed
end

-- Lets new work begin a task anew where it is idle. What settles never does: it continues it.
local function begin_if_idle(counter, now)
  if not counter.idle then return end
  counter.committed, counter.slot, counter.anew, counter.idle = 0, now, true, false
end

-- True where what was reserved in `slot` still belongs to what the counter counts now.
local function counts(counter, slot)
  if counter.kind == KIND_ROLLING then return slot >= counter.oldest end
  if counter.kind == KIND_TASK then return slot == counter.slot end
  return true
end

-- Writes a counter although no amount of it changes: who uses it keeps it alive. From here on it
-- is there and in use, as the operations that follow would find it.
local function keep_alive(counter)
  counter.dirty, counter.idle, counter.exists = true, false, true
end

-- Notes an amount to add to a field: as a sum while that is exact, else one after another.
local function add(counter, field, amount)
  local amounts = counter.added[field]
  if not amounts then
    counter.added[field] = {amount}
  elseif math.abs(amounts[#amounts] + amount) <= EXACT_MAX then
    amounts[#amounts] = amounts[#amounts] + amount
  else
    amounts[#amounts + 1] = amount
  end
  keep_alive(counter)
end

local function add_held(counter, amount)
  counter.held = counter.held + amount
  add(counter, 'h', amount)
end

local function add_credit(counter, amount)
  counter.credit = counter.credit + amount
  add(counter, 'k', amount)
end

local function can_add(counter, amount)
  return counter.committed + amount <= COUNTER_MAX
end

local function add_committed(counter, slot, amount)
  keep_alive(counter)
  if amount == 0 or not counts(counter, slot) then return end
  counter.committed = counter.committed + amount
  add(counter, 'c', amount)
  if counter.kind == KIND_ROLLING then add(counter, 'b' .. slot, amount) end
end

-- Takes what has left a rolling window off its committed amount: as a sum while that is exact,
-- else bucket by bucket as the text that Redis keeps.
local function write_dropped(key, counter)
  if counter.dropped <= EXACT_MAX then
    if counter.dropped ~= 0 then add(counter, 'c', -counter.dropped) end
    return
  end
  for _, amount in ipairs(counter.drop_amounts) do
    if amount and amount ~= '0' then
      local negated = string.sub(amount, 1, 1) == '-' and string.sub(amount, 2) or '-' .. amount
      redis.call('HINCRBY', key, 'c', negated)
    end
  end
end

local function write_counter(key, counter, now)
  if counter.anew then redis.call('HSET', key, 'c', 0) end
  if counter.kind == KIND_ROLLING then
    if #counter.drop > 0 then redis.call('HDEL', key, unpack(counter.drop)) end
    write_dropped(key, counter)
    if counter.moved or not counter.stored then redis.call('HSET', key, 'o', counter.oldest) end
  elseif counter.kind == KIND_TASK then
    redis.call('HSET', key, 's', now, 'w', counter.slot)
  end
  -- A counter exists from the moment that it has a held amount, if only 0.
  if not counter.stored and not counter.added.h then add(counter, 'h', 0) end
  for field, amounts in pairs(counter.added) do
    -- Adding 0 makes of -0, which HINCRBY refuses, a 0.
    for _, amount in ipairs(amounts) do redis.call('HINCRBY', key, field, amount + 0) end
  end
  -- A calendar window's counter has a fixed end, so its time to live is set once.
  if counter.ttl_ms > 0 and (not counter.stored or counter.p1 > 0) then
    redis.call('PEXPIRE', key, counter.ttl_ms)
  end
end

-- Writes every counter that changed. Amounts go as differences, so they stay exact in Redis even
-- where a double cannot hold the sum.
local function write_counters(now)
  for key, counter in pairs(loaded) do
    if counter.dirty then write_counter(key, counter, now) end
  end
end

-- What a denial needs to say when room comes back: the rolling window's amounts by bucket.
local function bucket_amounts(counter, now)
  if counter.kind ~= KIND_ROLLING or not counter.exists then return {} end
  local names, found = {}, {}
  for index = counter.oldest, math.floor(now / counter.p1) do names[#names + 1] = 'b' .. index end
  if #names == 0 then return found end
  local amounts = redis.call('HMGET', counter.key, unpack(names))
  for position, name in ipairs(names) do
    local amount, added = amounts[position], counter.added[name]
    if amount or added then
      amount = tonumber(amount or 0)
      for _, more in ipairs(added or {}) do amount = amount + more end
      found[#found + 1] = {counter.oldest + position - 1, amount}
    end
  end
  return found
end
