-- Fragment: what a new inode inherits from a directory with a default ACL (after acl.lua).
--
-- `pl`, `l` = local numbers of the directory and the new inode; `attr` = packed attributes of the new
-- inode, `mode` its mode; `perm` = the permission bits that were asked for, without the umask.
-- Writes the ACLs and returns the attributes. An access ACL that says no more than the bits is not
-- kept; a directory passes the default ACL on.
local function inherit(pl, l, attr, mode, perm, is_dir)
  local acl = call('HGET', P .. 'e' .. fmt('%d', pl), DEFAULT)
  if not acl then return attr end
  local ekey, flags = P .. 'e' .. fmt('%d', l), unpack('>I2', attr, 3)
  local access, bits = under(acl, perm, false)
  if #acl > 28 then  -- more than owner, group and others
    call('HSET', ekey, ACCESS, access)
    flags = flags + 64 + 4
  end
  if is_dir then
    call('HSET', ekey, DEFAULT, acl)
    flags = flags + 128 + (flags % 8 < 4 and 4 or 0)
  end
  return pack('>I2I2', mode - mode % 512 + bits, flags) .. sub(attr, 5)
end
