-- Renames, replaces or exchanges.
-- ARGV[2] = old parent (8) | hash of the old name (4) | new parent (8) | hash of the new name (4)
--           | now (8) | mode (1: 0 replace, 1 no replace, 2 exchange) | victim (1)
--           | inode that the caller expects under the new name (8);
-- ARGV[3] = old name; ARGV[4] = new name.
-- Reply: 0 | old parent's attributes (64) | new parent's (64) | inode moved (8) | length (1) | its
-- attributes | what became of the inode that had the new name (1: 255 none, 3 exchanged, else
-- the fate) | that inode (8) | length (1) | its attributes | freed extent records. 246 instead of 0
-- if both names lead to the same inode: nothing was changed.
-- Errors: ESTALE, ENOTDIR, ENOENT, EEXIST, EISDIR, ENOTEMPTY, EPERM (the trash), EINVAL (into itself), ELOOP, EIO,
-- EXDEV (the directory counts to another tree), EDQUOT.
-- Invariants: the directories stay a tree (no directory moves below itself: the walk up and the
-- move are one script); counts and parent pointers follow.
local A, oname, nname = ARGV[2], ARGV[3], ARGV[4]
local op, np, now = sub(A, 1, 8), sub(A, 13, 20), sub(A, 25, 32)
local mode, victim = string.byte(A, 33, 34)
local okey, ofield, ol = where(op)
local oattr = call('HGET', okey, ofield)
local nkey, nfield, nl = where(np)
local nattr = op == np and oattr or call('HGET', nkey, nfield)
if not oattr or not nattr then return '\116' end
local om, oflags, olinks, _, _, oents, obuckets = unpack('>I2I2I4I4I4I4I4', oattr)
local nm, nflags, nlinks, _, _, nents, nbuckets = unpack('>I2I2I4I4I4I4I4', nattr)
if om < 16384 or om >= 20480 or nm < 16384 or nm >= 20480 then return '\20' end
if nlinks == 0 or olinks == 0 then return '\2' end
local odkey = bucket(ol, unpack('>I4', A, 9), obuckets)
local ndkey = bucket(nl, unpack('>I4', A, 21), nbuckets)
local src = call('HGET', odkey, oname)
if not src then return '\2' end
local dst = call('HGET', ndkey, nname)
if dst and mode == 1 then return '\17' end
if not dst and mode == 2 then return '\2' end
local sino, dino = sub(src, 1, 8), dst and sub(dst, 1, 8)
local skey, sfield, sl = where(sino)
local sattr = call('HGET', skey, sfield)
local dkey, dfield, dl, dattr
if dst then
  dkey, dfield, dl = where(dino)
  dattr = call('HGET', dkey, dfield)
  if not dattr then return '\5' end
end
if not sattr then return '\5' end
if sino == dino then
  return '\246' .. oattr .. nattr .. sino .. char(#sattr) .. sattr .. '\255'
end
local sdir, ddir = #sattr == 64 and sub(src, 9, 9) == '\4', dst and sub(dst, 9, 9) == '\4'

-- Whether `dir` is `above` or lies below it.
local function below(dir, above)
  for _ = 1, 4096 do
    if dir == above then return 22 end
    local key, field = where(dir)
    local attr = call('HGET', key, field)
    if not attr then return 5 end
    local up = sub(attr, 57, 64)
    if up == dir then return 0 end
    dir = up
  end
  return 40
end
if op ~= np then
  local bad = sdir and below(np, sino) or 0
  if bad == 0 and mode == 2 and ddir then bad = below(op, dino) end
  if bad ~= 0 then return char(bad) end
end
if dst and mode == 0 then
  if ddir and not sdir then return '\21' end
  if sdir and not ddir then return '\20' end
  if ddir and unpack('>I4', dattr, 17) > 0 then return '\39' end
end
-- While the trash is on, its own directories stay where they are.
if S[8] and S[8] % 8 >= 4 and (unpack('>I2', sattr, 3) % 2048 >= 1024
    or dst and unpack('>I2', dattr, 3) % 2048 >= 1024) then
  return '\1'
end
local q, smoves, stree, dmoves, dtree
if nflags % 1024 >= 512 or oflags % 1024 >= 512 or unpack('>I2', sattr, 3) % 1024 >= 512
    or dst and mode == 2 and unpack('>I2', dattr, 3) % 1024 >= 512 then
  local no
  q = borders()
  no, smoves, stree = q.cross(sino, sattr, sl, nflags, nl, unpack('>I4', sattr, 5) == 1, op == np)
  if no then return char(no) end
  if dst and mode == 2 then
    no, dmoves, dtree = q.cross(dino, dattr, dl, oflags, ol, unpack('>I4', dattr, 5) == 1, op == np)
    if no then return char(no) end
  end
  if not q.free and q.over(true) then return '\122' end
end

call('HDEL', odkey, oname)
call('HSET', ndkey, nname, src)
if smoves then sattr = q.moved(sino, sattr, sl, stree) end
if dmoves then dattr = q.moved(dino, dattr, dl, dtree) end
-- Links and names that the old and the new directory win or lose.
local od, nd = sdir and -1 or 0, sdir and 1 or 0
local oe, ne = -1, dst and 0 or 1
if ddir then nd = nd - 1 end
if mode == 2 then
  call('HSET', odkey, oname, dst)
  oe = 0
  if ddir then od = od + 1 end
end
if op == np then
  od, oe = 0, oe + ne
  if ddir and mode == 0 then od = -1 end
  nd, ne = 0, 0
end
oents, nents = oents + oe, nents + ne
if nents > 40 * nbuckets and op ~= np then nbuckets = grow(nl, nbuckets) end
oattr = sub(oattr, 1, 4) .. pack('>I4', olinks + od) .. sub(oattr, 9, 16)
  .. pack('>I4', oents) .. sub(oattr, 21, 24) .. now
    .. after(now, sub(oattr, 33, 40)) .. sub(oattr, 41)
call('HSET', okey, ofield, oattr)
if op == np then
  nattr = oattr
else
  nattr = sub(nattr, 1, 4) .. pack('>I4', nlinks + nd) .. sub(nattr, 9, 16)
    .. pack('>I4I4', nents, nbuckets) .. now
    .. after(now, sub(nattr, 33, 40)) .. sub(nattr, 41)
  call('HSET', nkey, nfield, nattr)
end
-- The directory `op` or `np` itself cannot be the one that moves or is replaced: it would be
-- below itself, or not empty.
sattr = sub(sattr, 1, 32) .. after(now, sub(sattr, 33, 40)) .. sub(sattr, 41, 56)
  .. (sdir and np or sub(sattr, 57))
call('HSET', skey, sfield, sattr)
local reply = '\0' .. oattr .. nattr .. sino .. char(#sattr) .. sattr
local changes = 'A' .. op .. 'A' .. sino .. 'E' .. op .. pack('>I2', #oname) .. oname
  .. 'E' .. np .. pack('>I2', #nname) .. nname
if op ~= np then changes = changes .. 'A' .. np end
if not dst then
  if q then q.settle() end
  return finish(reply .. '\255', changes, 0, 0)
end
changes = changes .. 'A' .. dino
if mode == 2 then
  dattr = sub(dattr, 1, 32) .. after(now, sub(dattr, 33, 40)) .. sub(dattr, 41, 56)
    .. (ddir and op or sub(dattr, 57))
  call('HSET', dkey, dfield, dattr)
  if q then q.settle() end
  return finish(reply .. '\3' .. dino .. char(#dattr) .. dattr, changes, 0, 0)
end
local dlinks = ddir and 0 or unpack('>I4', dattr, 5) - 1
dattr = sub(dattr, 1, 4) .. pack('>I4', dlinks) .. sub(dattr, 9, 32)
    .. after(now, sub(dattr, 33, 40)) .. sub(dattr, 41)
local fate, freed, inodes, bytes, place = '\0', '', 0, 0, nil
local kept
if dlinks == 0 and keeps(nflags) then kept, inodes, place = toss(dino, dattr, nl, nname, now) end
if kept then
  dattr, changes = kept, changes .. 'A' .. place
else
  dattr, fate, freed, inodes, bytes = drop(dino, dattr, victim, sub(A, 35, 42))
end
if q then q.settle() end
return finish(reply .. fate .. dino .. char(#dattr) .. dattr .. freed, changes, inodes, bytes)
