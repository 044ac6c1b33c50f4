-- Reads counters as the deciding scripts would see them now. Writes nothing.
--
-- KEYS 1 shard, then the counters
-- ARGV 1 MessagePack {head, counters}
--      counters  {kind, ttl_ms, p1, p2} for each counter key, in order
-- Reply results {committed, held, credit} by counter, flat, as text: exact beyond 2^53
-- Keeps: a shard that has lost data is never read as zero.

-- @include shared/shard
-- @include shared/counters

-- Parse.
local head, specs = unpack(cmsgpack.unpack(ARGV[1]))
local now = head[3]

-- Decide.
local status, seq = check_shard(KEYS[1], head)
if status ~= STATUS_OK then return reply(status, seq, {}) end

local values = {}
for index, spec in ipairs(specs) do
  local key = KEYS[1 + index]
  local counter = load_counter(key, spec[1], spec[2], spec[3], spec[4], now)
  local raw = redis.call('HMGET', key, 'c', 'h', 'k')
  -- The text that Redis keeps is exact; the script's own number only where it changed it.
  local changed = counter.idle or counter.rolling and counter.rolling.dropped ~= 0
  values[#values + 1] = (not changed and raw[1]) or string.format('%.0f', committed_of(counter))
  values[#values + 1] = raw[2] or '0'
  values[#values + 1] = raw[3] or '0'
end
return reply(STATUS_OK, seq, values)
