-- Notes that blocks of a file cannot be had, or takes the note away.
-- ARGV[1] = inode (8) | most files noted (4); ARGV[2] = why, for people; or empty, and then
-- ARGV[3] = the note that is to go, if it still is this one.
-- Reply: 0 | 1 noted or taken away, 0 not: there are too many, or it is another by now (1).
-- ENOENT: there is no such inode, and nothing is noted of it.
-- A note: milliseconds since 1970 of the first time (8) and of the last (8) | why.
-- Invariant: what is found out later than the note that it is about takes that note away, and no
-- other.
local ino, most = sub(ARGV[1], 1, 8), unpack('>I4', ARGV[1], 9)
local lkey = P .. 'lost'
local old = call('HGET', lkey, ino)
if ARGV[2] == '' then
  if old ~= ARGV[3] then return '\0\0' end
  call('HDEL', lkey, ino)
  return '\0\1'
end
local key, field = where(ino)
if call('HEXISTS', key, field) == 0 then
  call('HDEL', lkey, ino)
  return '\2'
end
if not old and call('HLEN', lkey) >= most then return '\0\0' end
call('DEL', P .. '~')  -- so that this works when memory is full
local time = call('TIME')
local now = pack('>I8', time[1] * 1000 + math.floor(time[2] / 1000))
call('HSET', lkey, ino, (old and sub(old, 1, 8) or now) .. now .. ARGV[2])
return '\0\1'
