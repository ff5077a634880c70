-- Sets or removes an ACL.
-- ARGV[2] = inode (8) | now (8) | which (1: 1 access, 2 default) | 1 if the permission bits follow
--           the access ACL (1) | those bits (2) | 1 to take the set-group-id bit away (1);
-- ARGV[3] = the ACL, empty for none.
-- Reply: 0 | length (1) | attributes of the inode. 246 instead of 0 if a default ACL is taken from
-- what is no directory: nothing was changed.
-- Errors: ESTALE, EOPNOTSUPP (a symbolic link), EACCES (default ACL of what is no directory),
-- ENOSPC (more than 256 extended attributes).
-- Invariant: 64 and 128 in the flags say that there is an access and a default ACL; one that says
-- no more than the permission bits is not kept; mask or owning group are the group's bits.
local A, acl = ARGV[2], ARGV[3]
local ino = sub(A, 1, 8)
local which, follows, perm, kill = unpack('>BBI2B', A, 17)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local mode, flags = unpack('>I2I2', attr)
local kind = mode - mode % 4096
if kind == 40960 then return '\95' end
if which == 2 and kind ~= 16384 then
  return acl ~= '' and '\13' or '\246' .. char(#attr) .. attr
end
local name = which == 1 and 'system.posix_acl_access' or 'system.posix_acl_default'
local ekey, weight = P .. 'e' .. fmt('%d', l), which * 64
local has = flags % (weight * 2) >= weight
if acl ~= '' then
  if not has then
    if call('HLEN', ekey) >= 256 then return '\28' end
    flags = flags + weight
  end
  call('HSET', ekey, name, acl)
  if flags % 8 < 4 then flags = flags + 4 end
elseif has then
  call('HDEL', ekey, name)
  flags = flags - weight
  if flags % 8 >= 4 and call('EXISTS', ekey) == 0 then flags = flags - 4 end
end
if follows == 1 then mode = mode - mode % 512 + perm end
if kill == 1 and mode % 2048 >= 1024 then mode = mode - 1024 end
attr = pack('>I2I2', mode, flags) .. sub(attr, 5, 32)
  .. after(sub(A, 9, 16), sub(attr, 33, 40)) .. sub(attr, 41)
call('HSET', key, field, attr)
return finish('\0' .. char(#attr) .. attr, 'A' .. ino, 0, 0)
