-- Reads counters as the deciding scripts would see them now. Writes nothing.
--
-- KEYS 1 shard, then the counters
-- ARGV 1 MessagePack {head, counters}
--      counters  as for operate.lua
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
  local counter = named_counter(key, string.sub(spec, 3), now)
  local raw = redis.call('HMGET', key, 'c', 'h', 'k')
  -- The text that Redis keeps is exact; the script's own number only where it changed it.
  local changed = counter[C_IDLE] or counter[C_ROLLING] and counter[C_ROLLING].dropped ~= 0
  values[#values + 1] = (not changed and raw[1]) or string.format('%.0f', committed_of(counter))
  values[#values + 1] = raw[2] or '0'
  values[#values + 1] = raw[3] or '0'
end
return reply(STATUS_OK, seq, values)
