-- One more name for an inode.
-- ARGV[2] = parent (8) | inode (8) | hash (4) | now (8); ARGV[3] = name.
-- Reply as create.lua's, EEXIST included.
-- Errors: ESTALE, ENOTDIR, ENOENT (either is removed), EPERM (a directory), EMLINK,
-- EXDEV (the directory counts to another tree), EDQUOT.
-- Invariant: what was made without a name (32 in the flags) is no orphan once it has one.
local A, name = ARGV[2], ARGV[3]
local parent, ino, now = sub(A, 1, 8), sub(A, 9, 16), sub(A, 21, 28)
local pkey, pfield, pl = where(parent)
local pattr = call('HGET', pkey, pfield)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not pattr or not attr then return '\116' end
local pmode, pflags, plinks, _, _, entries, buckets = unpack('>I2I2I4I4I4I4I4', pattr)
if pmode < 16384 or pmode >= 20480 then return '\20' end
local mode, flags, nlink = unpack('>I2I2I4', attr)
if mode >= 16384 and mode < 20480 then return '\1' end
if plinks == 0 or nlink == 0 and flags % 64 < 32 then return '\2' end
local dkey = bucket(pl, unpack('>I4', A, 17), buckets)
local there = call('HGET', dkey, name)
if there then
  key, field = where(there)
  return '\17' .. pattr .. sub(there, 1, 8) .. (call('HGET', key, field) or '')
end
if nlink >= 65000 then return '\31' end
local q
if flags % 1024 >= 512 or pflags % 1024 >= 512 then
  q = borders()
  local no, moves, tree = q.cross(ino, attr, l, pflags, pl, nlink == 0, false)
  if no then return char(no) end
  if moves and not q.free and q.over(true) then return '\122' end
  if moves then attr = q.moved(ino, attr, l, tree) end
  flags = unpack('>I2', attr, 3)
end

if nlink == 0 then
  call('ZREM', P .. 'o', ino)
  call('ZREM', P .. 'h', ino .. sid)
  flags = flags - 32 - flags % 16 + flags % 8
end
attr = sub(attr, 1, 2) .. pack('>I2I4', flags, nlink + 1) .. sub(attr, 9, 32)
  .. after(now, sub(attr, 33, 40)) .. sub(attr, 41)
call('HSET', key, field, attr)
call('HSET', dkey, name, ino .. char((mode - mode % 4096) / 4096))
entries = entries + 1
if entries > 40 * buckets then buckets = grow(pl, buckets) end
pattr = sub(pattr, 1, 16) .. pack('>I4I4', entries, buckets) .. now
  .. after(now, sub(pattr, 33, 40)) .. sub(pattr, 41)
call('HSET', pkey, pfield, pattr)
if q then q.settle() end
return finish('\0' .. pattr .. attr,
  'A' .. parent .. 'A' .. ino .. 'E' .. parent .. pack('>I2', #name) .. name, 0, 0)
