-- Sets an extended attribute.
-- ARGV[2] = inode (8) | now (8) | mode (1: 1 create, 2 replace, both bits or none); ARGV[3] = name;
-- ARGV[4] = value.   Reply: 0 | length (1) | attributes of the inode.
-- Errors: ESTALE, EEXIST, ENODATA, ENOSPC (more than 256 names).
local A = ARGV[2]
local ino, mode = sub(A, 1, 8), string.byte(A, 17)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local ekey = P .. 'e' .. fmt('%d', l)
local there = call('HEXISTS', ekey, ARGV[3]) == 1
if there and mode % 2 == 1 then return '\17' end
if not there and mode >= 2 then return '\61' end
if not there and call('HLEN', ekey) >= 256 then return '\28' end
call('HSET', ekey, ARGV[3], ARGV[4])
local flags = unpack('>I2', attr, 3)
if flags % 8 < 4 then flags = flags + 4 end
attr = sub(attr, 1, 2) .. pack('>I2', flags) .. sub(attr, 5, 32)
  .. after(sub(A, 9, 16), sub(attr, 33, 40)) .. sub(attr, 41)
call('HSET', key, field, attr)
return finish('\0' .. char(#attr) .. attr, 'A' .. ino, 0, 0)
