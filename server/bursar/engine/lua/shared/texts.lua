-- Shared: many numbers, or many texts, side by side in one text, mirrored by engine/wire.py.
--
-- Numbers are little-endian, each of 8 bytes if nothing else is said; a text has its length before
-- it, in 2 bytes. A list that is read or made whole makes one table at the most, where
-- MessagePack makes it grow by steps, and a table is what costs a script most.

-- Kinds of what is repeated: formats of `struct`.
local LONG, LONG_BYTES = 'l', 8
local SHORT_TEXT = 'Hc0'

-- A call of `struct` has its values on Lua's stack, which takes some thousands.
local VALUES_MAX = 2000

-- By kind, then by how often it is repeated.
local formats = {}

local function format_of(kind, count)
  local of_kind = formats[kind] or {}
  local format = of_kind[count] or '<' .. string.rep(kind, count)
  formats[kind], of_kind[count] = of_kind, format
  return format
end

-- What a kind repeated so often is in a text from a position on, one value after another; width:
-- how many values a kind has. Behind them in the list is where they ended.
local function unpack_values(kind, width, text, count, position)
  if count * width <= VALUES_MAX then
    return {struct.unpack(format_of(kind, count), text, position)}
  end
  local list, most = {}, math.floor(VALUES_MAX / width)
  for before = 0, count - 1, most do
    local part = math.min(most, count - before)
    local values = {struct.unpack(format_of(kind, part), text, position)}
    for index = 1, part * width do list[before * width + index] = values[index] end
    position = values[part * width + 1]
  end
  return list
end

-- What unpack_values reads, from a list that begins with it.
local function pack_values(kind, width, list, count)
  if count * width <= VALUES_MAX then
    return struct.pack(format_of(kind, count), unpack(list, 1, count * width))
  end
  local parts, most = {}, math.floor(VALUES_MAX / width)
  for before = 0, count - 1, most do
    local last = math.min(before + most, count)
    local values = {unpack(list, before * width + 1, last * width)}
    parts[#parts + 1] = struct.pack(format_of(kind, last - before), unpack(values))
  end
  return table.concat(parts)
end

-- The numbers of a text, and how many they are.
local function unpack_longs(text)
  local count = #text / LONG_BYTES
  return unpack_values(LONG, 1, text, count, 1), count
end

-- The first so many numbers of a list.
local function pack_longs(list, count)
  return pack_values(LONG, 1, list, count)
end
