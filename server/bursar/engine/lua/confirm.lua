-- Opens a shard of a Redis that was started anew, once every server says that it lacks nothing.
--
-- KEYS 1 shard, 2 journal
-- ARGV 1 MessagePack {head, server, others}
--      others  servers whose word is waited for
-- Reply results empty; the status says whether the shard is open
-- Keeps: nobody decides on a run of Redis that lacks what was answered, and nothing that an earlier
--      run allowed is allowed to this one.

-- @include shared/shard

-- Parse.
local head, server, others = unpack(cmsgpack.unpack(ARGV[1]))

-- Decide.
local status, seq = check_shard(KEYS[1], head, KEYS[2])
if status ~= STATUS_UNCONFIRMED then return reply(status, seq, {}) end

local said = redis.call('HGET', KEYS[1], 'confirmed')
local confirmed = said and cmsgpack.unpack(said) or {run = ''}
if confirmed.run ~= ARGV[2] then confirmed = {run = ARGV[2], by = {}} end
confirmed.by[server] = true
local is_open = true
for _, other in ipairs(others) do is_open = is_open and confirmed.by[other] end

-- Write.
if is_open then
  redis.call('HDEL', KEYS[1], 'confirmed')
  redis.call('HSET', KEYS[1], 'run', ARGV[2])
  return reply(STATUS_OK, seq, {})
end
-- The run before this one could be back, with what it has from here.
redis.call('HDEL', KEYS[1], 'run')
redis.call('HSET', KEYS[1], 'confirmed', cmsgpack.pack(confirmed))
return reply(STATUS_UNCONFIRMED, seq, {})
