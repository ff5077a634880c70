-- Fragment: where the attributes of an inode are. 64 of them share a hash.
-- A full inode number is 8 opaque bytes; its lower 48 bits are exact in a Lua number. Numbers
-- become text by '%d': what Lua and Redis do by themselves prints doubles, which is slower by far.
local function where(ino)
  local _, l = unpack('>I2I6', ino)
  return P .. fmt('a%d', (l - l % 64) / 64), fmt('%d', l % 64), l
end
