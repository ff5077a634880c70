-- Removes an extended attribute.
-- ARGV[2] = inode (8) | now (8); ARGV[3] = name.   Reply: 0 | length (1) | attributes.
-- Errors: ESTALE, ENODATA.
local A = ARGV[2]
local ino = sub(A, 1, 8)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local ekey = P .. 'e' .. fmt('%d', l)
if call('HEXISTS', ekey, ARGV[3]) == 0 then return '\61' end
call('HDEL', ekey, ARGV[3])
local flags = unpack('>I2', attr, 3)
if flags % 8 >= 4 and call('EXISTS', ekey) == 0 then flags = flags - 4 end
attr = sub(attr, 1, 2) .. pack('>I2', flags) .. sub(attr, 5, 32)
  .. after(sub(A, 9, 16), sub(attr, 33, 40)) .. sub(attr, 41)
call('HSET', key, field, attr)
return finish('\0' .. char(#attr) .. attr, 'A' .. ino, 0, 0)
