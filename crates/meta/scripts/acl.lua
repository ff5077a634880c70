-- Fragment: an ACL under permission bits. The stored form is that of `acl.rs`.
--
-- Returns `acl` (which is valid) with the entries of owner, group class and others cut down to
-- the nine bits of `perm`, or set to them if `set`; and the nine bits that it stands for then.
-- The entry of the group class is the mask, or the owning group where there is no mask.
local function under(acl, perm, set)
  local class = unpack('<I2', acl, #acl - 15) == 16 and 16 or 4
  local out, bits = { sub(acl, 1, 4) }, 0
  for i = 5, #acl, 8 do
    local tag, has = unpack('<I2I2', acl, i)
    local weight = tag == 1 and 64 or tag == class and 8 or tag == 32 and 1
    if weight then
      local may = (perm - perm % weight) / weight % 8
      has = set and may or bit.band(may, has)
      bits = bits + has * weight
    end
    out[#out + 1] = pack('<I2I2', tag, has) .. sub(acl, i + 4, i + 7)
  end
  return table.concat(out), bits
end
local ACCESS, DEFAULT = 'system.posix_acl_access', 'system.posix_acl_default'
