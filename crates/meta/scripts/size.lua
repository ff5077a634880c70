-- Fragment: sizes and offsets of 8 bytes as the number of a chunk and a position in it, since a Lua
-- number is exact to 2^53 only.
local CHUNK = 67108864

local function split(bytes, at)
  local high, low = unpack('>I4I4', bytes, at)
  local pos = low % CHUNK
  return high * 64 + (low - pos) / CHUNK, pos
end

local function join(chunk, pos)
  local low = chunk % 64
  return pack('>I4I4', (chunk - low) / 64, low * CHUNK + pos)
end

-- What a size counts in the usage of the volume: at most 16 TiB.
local function weigh(chunk, pos)
  if chunk >= 262144 then return 17592186044416 end
  return chunk * CHUNK + pos
end
