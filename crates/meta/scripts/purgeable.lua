-- Orphans that every session has acknowledged and nobody holds.
-- ARGV[1] = most (decimal).   Reply: 0 | inodes (8 each).
local least = call('ZRANGE', P .. 'q', 0, 0, 'WITHSCORES')[2]
if not least then return '\0' end
local found = call('ZRANGEBYSCORE', P .. 'o', '-inf', least, 'LIMIT', 0, ARGV[1])
local out = { '\0' }
for i = 1, #found do
  local ino = found[i]
  if #call('ZRANGEBYLEX', P .. 'h', '[' .. ino,
      '[' .. ino .. '\255\255\255\255\255\255\255\255\255', 'LIMIT', 0, 1) == 0 then
    out[#out + 1] = ino
  end
end
return concat(out)
