-- Stops a shard: no decision is made from it until it is rebuilt.
--
-- KEYS 1 shard
-- ARGV 1 MessagePack {epoch, sequence number, token, why}
--      epoch     '' stops any generation, else only this one
--      sequence  stops it only where its own number is lower; 0 in any case
--      token     '' only stops it; else names who rebuilds it from here on
--      why       '' does not say; else for those who look at its rebuild
-- Reply {stopped or not, epoch before, sequence number, newest time, newest trimmed id}
-- Keeps: one rebuilds at a time; the writes of an earlier one are refused by their token.

local epoch, sequence, token, why = unpack(cmsgpack.unpack(ARGV[1]))
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'now', 'trimmed')
local found, seq = meta[1] or '', tonumber(meta[2] or 0)
local stop = (epoch == '' or found == epoch) and (sequence == 0 or seq < sequence)
if stop then
  redis.call('HDEL', KEYS[1], 'epoch', 'replaying')
  if why ~= '' then redis.call('HSET', KEYS[1], 'stopped', why) end
  if token ~= '' then redis.call('HSET', KEYS[1], 'rebuild', token) end
end
return cmsgpack.pack({stop and 1 or 0, found, seq, tonumber(meta[3] or 0), meta[4] or ''})
