-- A session closes an orphan.   ARGV[1] = session (8) | inode (8).
-- Reply: 0 | 1 if no other session holds it or has yet to acknowledge it.
local sid, ino = sub(ARGV[1], 1, 8), sub(ARGV[1], 9, 16)
if call('HEXISTS', C, 's' .. sid) == 0 then return '\250' end
call('ZREM', P .. 'h', ino .. sid)
local order = call('ZSCORE', P .. 'o', ino)
if not order then return '\0\0' end
if #call('ZRANGEBYLEX', P .. 'h', '[' .. ino, '[' .. ino .. '\255\255\255\255\255\255\255\255\255',
    'LIMIT', 0, 1) > 0 then
  return '\0\0'
end
local acks = call('ZRANGE', P .. 'q', 0, 1, 'WITHSCORES')
local least = acks[2]
if acks[1] == sid then least = acks[4] end
return (least and tonumber(least) < tonumber(order)) and '\0\0' or '\0\1'
