-- Reads holds. Writes nothing.
--
-- KEYS 1 shard, then the holds
-- ARGV 1 MessagePack {head}
-- Reply results the packed hold or '' by key
-- Keeps: what is not there was never there: a shard that has lost data says nothing.

-- @include shared/shard

-- Parse.
local head = unpack(cmsgpack.unpack(ARGV[1]))

-- Decide.
local status, seq = check_shard(KEYS[1], head)
if status ~= STATUS_OK then return reply(status, seq, {}) end

local found = {}
for position = 2, #KEYS do found[#found + 1] = redis.call('GET', KEYS[position]) or '' end
return reply(STATUS_OK, seq, found)
