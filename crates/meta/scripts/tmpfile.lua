-- A new inode without a name, held by this session until it is given one or given up.
-- ARGV[2] = directory it is made in (8) | new inode (8) | permission bits before the umask (2);
-- ARGV[3] = packed attributes.
-- Reply: 0 | its attributes.
-- Errors: ESTALE, ENOTDIR, ENOENT (directory removed), ENOSPC, EDQUOT.
-- Invariant: it is an orphan from its beginning, so that it goes with the session that has it.
-- 32 in its flags says that a link may take it out of the orphans; a directory (the staging place
-- of a clone) is filled and emptied by names as any other. A file inherits a default ACL.
local A, attr = ARGV[2], ARGV[3]
local parent, ino = sub(A, 1, 8), sub(A, 9, 16)
local pkey, pfield, pl = where(parent)
local pattr = call('HGET', pkey, pfield)
if not pattr then return '\116' end
local pmode, pflags, plinks = unpack('>I2I2I4', pattr)
if pmode < 16384 or pmode >= 20480 then return '\20' end
if plinks == 0 then return '\2' end
if S[6] and S[6] ~= '0' and S[4] + 1 > tonumber(S[6]) then return '\28' end

if pmode % 2048 >= 1024 then attr = sub(attr, 1, 12) .. sub(pattr, 13, 16) .. sub(attr, 17) end
local key, field, l = where(ino)
local mode = unpack('>I2', attr)
local q, add, tree
if S[8] or pflags % 1024 >= 512 then
  local uid, gid = unpack('>I4I4', attr, 9)
  q = quotas()
  add, tree = q.enrol(pflags, pl, uid, gid, 0)
  if q.over(uid == 0) then return '\122' end
end
if pflags % 256 >= 128 and mode >= 32768 then
  attr = inherit(pl, l, attr, mode, unpack('>I2', A, 17), false)
end
if q then
  attr = sub(attr, 1, 2) .. pack('>I2', unpack('>I2', attr, 3) + add) .. sub(attr, 5)
  if tree then q.join(l, tree) end
  q.settle()
end
call('HSET', key, field, attr)
call('ZADD', P .. 'o', call('HINCRBY', C, 'oseq', 1), ino)
call('ZADD', P .. 'h', 0, ino .. sid)
return finish('\0' .. attr, '', 1, 0)
