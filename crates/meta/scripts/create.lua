-- A new inode under a new name.
-- ARGV[2] = parent (8) | new inode (8) | hash of the name (4) | permission bits before the umask (2);
-- ARGV[3] = name; ARGV[4] = packed attributes of the new inode; ARGV[5] = target of a symbolic link, or none.
-- Reply: parent's attributes (64) | the inode's (the rest). Or EEXIST | parent's attributes (64)
-- | inode that has the name (8) | its attributes; nothing was changed.
-- Errors: ESTALE, ENOTDIR, ENOENT (parent removed), ENOSPC, EDQUOT.
-- Invariant: a directory's entry count is the number of its names; its nlink is 2 and the number
-- of its subdirectories. A directory with the set-group-id bit passes on its group; one with a
-- default ACL passes that on instead of the umask.
local A, name, attr = ARGV[2], ARGV[3], ARGV[4]
local parent, ino = sub(A, 1, 8), sub(A, 9, 16)
local pkey, pfield, pl = where(parent)
local pattr = call('HGET', pkey, pfield)
if not pattr then return '\116' end
local pmode, pflags, nlink, puid, pgid, entries, buckets = unpack('>I2I2I4I4I4I4I4', pattr)
if pmode < 16384 or pmode >= 20480 then return '\20' end
if nlink == 0 then return '\2' end
local dkey = bucket(pl, unpack('>I4', A, 17), buckets)
local mode = unpack('>I2', attr)
-- Set at once, for most names are new. One that is there already wins over a volume that is full.
local full = S[6] and S[6] ~= '0' and S[4] + 1 > tonumber(S[6])
local q, add, tree
if S[8] or pflags % 1024 >= 512 then
  if call('HEXISTS', dkey, name) == 0 then
    if full then return '\28' end
    local uid, gid = unpack('>I4I4', attr, 9)
    q = quotas()
    add, tree = q.enrol(pflags, pl, uid, pmode % 2048 >= 1024 and pgid or gid, 0)
    if q.over(uid == 0) then return '\122' end
  end
elseif full and call('HEXISTS', dkey, name) == 0 then
  return '\28'
end
if full or call('HSETNX', dkey, name, ino .. char((mode - mode % 4096) / 4096)) == 0 then
  local there = call('HGET', dkey, name)
  local key, field = where(there)
  return '\17' .. pattr .. sub(there, 1, 8) .. (call('HGET', key, field) or '')
end

local is_dir = mode >= 16384 and mode < 20480
if pmode % 2048 >= 1024 then
  if is_dir and mode % 2048 < 1024 then mode = mode + 1024 end
  attr = pack('>I2', mode) .. sub(attr, 3, 12) .. sub(pattr, 13, 16) .. sub(attr, 17)
end
local key, field, l = where(ino)
if pflags % 256 >= 128 and not ARGV[5] then
  attr = inherit(pl, l, attr, mode, unpack('>I2', A, 21), is_dir)
end
if q then
  attr = sub(attr, 1, 2) .. pack('>I2', unpack('>I2', attr, 3) + add) .. sub(attr, 5)
  if tree then q.join(l, tree) end
  q.settle()
end
call('HSET', key, field, attr)
if ARGV[5] then call('SET', P .. 'i' .. fmt('%.0f', l), ARGV[5]) end
entries = entries + 1
if entries > 40 * buckets then buckets = grow(pl, buckets) end
local now = sub(attr, 49, 56)
if is_dir then nlink = nlink + 1 end
pattr = pack('>I2I2I4I4I4I4I4c8c8c24', pmode, pflags, nlink, puid, pgid, entries, buckets, now,
  after(now, pattr, 33), sub(pattr, 41))
call('HSET', pkey, pfield, pattr)
return finish('\0' .. pattr .. attr,
  heard and 'A' .. parent .. 'E' .. parent .. pack('>I2', #name) .. name, 1, 0)
