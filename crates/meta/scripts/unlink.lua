-- Removes a name.
-- ARGV[2] = parent (8) | hash (4) | now (8) | victim (1) | inode the caller expects (8)
--           | 1 if a directory is to be removed (1);
-- ARGV[3] = name.
-- Reply: 0 | fate (1) | parent's attributes (64) | inode (8) | its attributes' length (1) | its
-- attributes | freed extent records.
-- Errors: ESTALE, ENOTDIR, ENOENT, EISDIR, ENOTEMPTY, EIO (the name leads nowhere).
-- Invariant: the first write is a deletion, so that it works when memory is full.
local A, name = ARGV[2], ARGV[3]
local parent, now = sub(A, 1, 8), sub(A, 13, 20)
local pkey, pfield, pl = where(parent)
local pattr = call('HGET', pkey, pfield)
if not pattr then return '\116' end
local pmode, pflags, plinks, _, _, entries, buckets = unpack('>I2I2I4I4I4I4I4', pattr)
if pmode < 16384 or pmode >= 20480 then return '\20' end
local dkey = bucket(pl, unpack('>I4', A, 9), buckets)
local there = call('HGET', dkey, name)
if not there then return '\2' end
local ino = sub(there, 1, 8)
local key, field = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\5' end
local mode, flags, nlink, _, _, children = unpack('>I2I2I4I4I4I4', attr)
local is_dir = mode >= 16384 and mode < 20480
if sub(A, 30, 30) == '\1' then
  if not is_dir then return '\20' end
  if children > 0 then return '\39' end
  -- The trash itself stays while it is on; the directories in it go.
  if flags % 2048 >= 1024 and keeps(pflags) then return '\1' end
  nlink, plinks = 0, plinks - 1
else
  if is_dir then return '\21' end
  nlink = nlink - 1
end

call('HDEL', dkey, name)
pattr = sub(pattr, 1, 4) .. pack('>I4', plinks) .. sub(pattr, 9, 16)
  .. pack('>I4', entries - 1) .. sub(pattr, 21, 24) .. now
  .. after(now, sub(pattr, 33, 40)) .. sub(pattr, 41)
call('HSET', pkey, pfield, pattr)
attr = sub(attr, 1, 4) .. pack('>I4', nlink) .. sub(attr, 9, 32)
  .. after(now, sub(attr, 33, 40)) .. sub(attr, 41)
local victim = string.byte(A, 21)
local fate, freed, inodes, bytes, place = '\0', '', 0, 0, nil
local kept
if nlink == 0 and keeps(pflags) then kept, inodes, place = toss(ino, attr, pl, name, now) end
if kept then
  attr = kept
else
  attr, fate, freed, inodes, bytes = drop(ino, attr, victim, sub(A, 22, 29))
end
return finish('\0' .. fate .. pattr .. ino .. char(#attr) .. attr .. freed,
  (place and 'A' .. place or '') .. 'A' .. parent .. 'A' .. ino .. 'E' .. parent .. pack('>I2', #name) .. name, inodes, bytes)
