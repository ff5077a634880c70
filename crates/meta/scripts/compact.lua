-- Replaces the oldest records of a chunk by an equivalent list.
-- ARGV[2] = inode (8) | ring epoch that the new slice was written under (8); ARGV[3] = chunk
-- (decimal); ARGV[4] = records that must be the oldest; ARGV[5] = records to put there.
-- Reply: 0 | 1 replaced, or 2 replaced and the chunk may show slices that others show too | then one
-- record for each slice that no chunk shows any more; 246 | 0 the chunk has changed otherwise.
-- Not done: 247 | epoch: written under one that readers do not look at any more.
-- Invariant: the file shows the same bytes before and after, so its times stay; and its blocks
-- are where readers look.
local ino, old = sub(ARGV[2], 1, 8), ARGV[4]
local key, field, l = where(ino)
local xkey = P .. 'x' .. fmt('%d', l)
local ring = call('HMGET', C, 'epoch', 'floor')
local epoch, written = tonumber(ring[1] or '0'), unpack('>I8', ARGV[2], 9)
if written + 1 < epoch or written < tonumber(ring[2] or '0') then
  return '\247' .. pack('>I8', epoch)
end
local now = call('HGET', xkey, ARGV[3])
if not now or sub(now, 1, #old) ~= old then return '\246\0' end
local new = ARGV[5] .. sub(now, #old + 1)
call('HDEL', xkey, ARGV[3])
if #new > 0 then call('HSET', xkey, ARGV[3], new) end
local attr = call('HGET', key, field)
if attr and unpack('>I2', attr, 3) % 32 >= 16 then
  -- What was written above meanwhile may show a slice that the compactor let go.
  return finish('\0\2' .. let_go(old, new), 'A' .. ino, 0, 0)
end
return finish('\0\1', 'A' .. ino, 0, 0)
