-- Writes counters and holds as the record has them: while a shard is rebuilt, or to repair some.
--
-- KEYS 1 shard, 2 expiries, then the counters and holds
-- ARGV 1 MessagePack {token, sequence number, rows}
--      token     of the rebuild in progress; '' for a repair
--      sequence  of the shard when a repair looked at it
--      rows      for each key {'counter', ttl_ms, field, text, ...}, {'hold', ttl_ms, packed, when
--                it is due} (0: never), or {'gone'}
-- Reply 1, or 0 where another one rebuilds it now, or calls came between: nothing is written
-- Keeps: what is written over is exactly what was looked at.

local token, sequence, rows = unpack(cmsgpack.unpack(ARGV[1]))
local meta = redis.call('HMGET', KEYS[1], 'rebuild', 'seq')
if token ~= '' then
  if meta[1] ~= token then return 0 end
elseif tonumber(meta[2] or 0) ~= sequence then
  return 0
end

-- A key is never removed before it is written: while a slot moves to another server of a cluster,
-- what is not there is taken to be on the other one, and the script would end halfway.
local function write_over(key, fields)
  local is_ours = {}
  for position = 1, #fields, 2 do is_ours[fields[position]] = true end
  local others = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if not is_ours[field] then others[#others + 1] = field end
  end
  redis.call('HSET', key, unpack(fields))
  if #others > 0 then redis.call('HDEL', key, unpack(others)) end
end

local ended = {}
for position, row in ipairs(rows) do
  local key, kind, ttl_ms = KEYS[2 + position], row[1], row[2] or 0
  if kind == 'hold' then
    redis.call('SET', key, row[3])
    if row[4] > 0 then redis.call('ZADD', KEYS[2], row[4], key) else ended[#ended + 1] = key end
  elseif kind == 'counter' and token ~= '' then
    redis.call('HSET', key, unpack(row, 3))  -- A rebuild has removed all keys before.
  elseif kind == 'counter' then
    write_over(key, {unpack(row, 3)})
    redis.call('PERSIST', key)
  else
    redis.call('DEL', key)
    ended[#ended + 1] = key
  end
  if ttl_ms > 0 then redis.call('PEXPIRE', key, ttl_ms) end
end
if #ended > 0 then redis.call('ZREM', KEYS[2], unpack(ended)) end
return 1
