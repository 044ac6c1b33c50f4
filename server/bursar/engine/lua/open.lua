-- Ends a rebuild: first for calls that are sent again, then for everyone.
--
-- KEYS 1 shard, 2 servers that have said what to make again, 3 those calls
-- ARGV 1 MessagePack {token, epoch, sequence number, now, replaying}
--      replaying  1: only calls that are sent again; 0: everyone
-- ARGV 2 the run of Redis that the call has reached
-- Reply 1, or 0 where another one rebuilds it now, or another run of Redis has it: it stays closed
-- Keeps: the epoch is set last, when all data is there.

local token, epoch, sequence, now, replaying = unpack(cmsgpack.unpack(ARGV[1]))
if redis.call('HGET', KEYS[1], 'rebuild') ~= token then return 0 end
if replaying == 1 then
  redis.call('DEL', KEYS[2], KEYS[3])
  -- Its journal begins anew, and nothing of it is trimmed yet.
  redis.call('HDEL', KEYS[1], 'trimmed', 'stopped', 'confirmed')
  redis.call('HSET', KEYS[1],
    'seq', sequence, 'last', 0, 'now', now, 'replaying', 1, 'run', ARGV[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch)
  return 1
end
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'run')
if meta[1] ~= epoch or meta[2] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], 'replaying', 'rebuild')
redis.call('DEL', KEYS[2], KEYS[3])
return 1
