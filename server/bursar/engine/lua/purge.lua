-- Removes keys of a shard that is being rebuilt.
--
-- KEYS 1 shard, then what goes
-- ARGV 1 MessagePack {token}
-- Reply 1, or 0 where another one rebuilds it now: nothing is removed

local token = unpack(cmsgpack.unpack(ARGV[1]))
if redis.call('HGET', KEYS[1], 'rebuild') ~= token then return 0 end
for position = 2, #KEYS do redis.call('UNLINK', KEYS[position]) end
return 1
