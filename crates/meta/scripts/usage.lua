-- How much the volume holds.
-- ARGV[1] = inode (8), or nothing.
-- Reply: 0 | inodes | bytes | most inodes | most bytes (8 each); after them, if the inode counts to a
-- tree with a quota, the same four of that.
local s = call('HMGET', C, 'inodes', 'bytes', 'max_inodes', 'max_bytes')
local reply = '\0' .. pack('>I8I8I8I8', math.max(0, tonumber(s[1] or '0')),
  math.max(0, tonumber(s[2] or '0')), tonumber(s[3] or '0'), tonumber(s[4] or '0'))
if ARGV[1] then
  local key, field, l = where(ARGV[1])
  local attr = call('HGET', key, field)
  local q = quotas()
  local tree = attr and q.tree_of(unpack('>I2', attr, 3), l)
  if tree then reply = reply .. sub(q.records[tree], 1, 32) end
end
return reply
