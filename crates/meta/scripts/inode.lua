-- Fragment: where the attributes of an inode are. 64 of them share a hash.
-- A full inode number is 8 opaque bytes; its lower 48 bits are exact in a Lua number.
local function where(ino)
  local _, l = unpack('>I2I6', ino)
  return P .. 'a' .. (l - l % 64) / 64, l % 64, l
end
