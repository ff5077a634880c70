-- The target of a symbolic link.
-- ARGV[1] = inode (8).   Reply: 0 | target.   Errors: ESTALE, EINVAL.
local key, field, l = where(ARGV[1])
local attr = call('HGET', key, field)
if not attr then return '\116' end
local mode = unpack('>I2', attr)
if mode < 40960 or mode >= 45056 then return '\22' end
return '\0' .. (call('GET', P .. 'i' .. fmt('%d', l)) or '')
