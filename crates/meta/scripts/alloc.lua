-- Ranges of numbers that are never given out twice.
-- ARGV[1] = session (8) | inode numbers wanted (4) | slices wanted (4).
-- Reply: 0 | first inode number (8) | first slice (8), local numbers of this shard.
-- A range whose reply is lost is wasted, which harms nobody.
local A = ARGV[1]
local sid = sub(A, 1, 8)
if call('HEXISTS', C, 's' .. sid) == 0 then return '\250' end
local inodes, slices = unpack('>I4I4', A, 9)
local ino, slice = 0, 0
if inodes > 0 then ino = call('HINCRBY', C, 'next_ino', inodes) - inodes end
if slices > 0 then
  slice = call('HINCRBY', C, 'next_slice', slices) - slices
  call('HSET', P .. 'g', sid, (call('HGET', P .. 'g', sid) or '') .. pack('>I8I8', slice, slices))
end
return '\0' .. pack('>I8I8', ino, slice)
