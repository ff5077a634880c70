-- A lock that is in the way of another (F_GETLK).
-- ARGV[1] = session (8) | inode (8) | kind (1) | owner (8) | first byte (8) | last byte (8)
--           | 1 if exclusive (1).
-- Reply: 0 | nothing, or: session (8) | owner (8) | first byte (8) | last byte (8)
-- | 1 if exclusive (1) | pid (4).
local A = ARGV[1]
local b = book(sub(A, 9, 16), sub(A, 17, 17))
local r = parse(sub(A, 1, 8) .. sub(A, 18, 42) .. '\0\0\0\0', HELD_BYTES)[1]
for i = 1, #b.held do
  if conflict(b.held[i], r) then return '\0' .. render({ b.held[i] }, false) end
end
return '\0'
