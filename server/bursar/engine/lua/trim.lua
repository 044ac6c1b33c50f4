-- Drops from the journal what PostgreSQL has recorded.
--
-- KEYS 1 shard, 2 journal
-- ARGV 1 MessagePack {epoch, id of the newest entry that is recorded, id after it}
-- Reply 1, or 0 where the shard's data is of another generation: its journal may have smaller ids
-- Keeps: nothing unread is ever dropped; `trimmed` tells a record that was restored from a backup
--      that it is behind.

local epoch, recorded, following = unpack(cmsgpack.unpack(ARGV[1]))
if redis.call('HGET', KEYS[1], 'epoch') ~= epoch then return 0 end
redis.call('XTRIM', KEYS[2], 'MINID', following)
redis.call('HSET', KEYS[1], 'trimmed', recorded)
return 1
