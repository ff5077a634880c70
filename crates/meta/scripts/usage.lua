-- How much the volume holds.   Reply: 0 | inodes | bytes | most inodes | most bytes (8 each).
local s = call('HMGET', C, 'inodes', 'bytes', 'max_inodes', 'max_bytes')
return '\0' .. pack('>I8I8I8I8', math.max(0, tonumber(s[1] or '0')),
  math.max(0, tonumber(s[2] or '0')), tonumber(s[3] or '0'), tonumber(s[4] or '0'))
