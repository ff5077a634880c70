-- What a name leads to.
-- ARGV[1] = parent (8) | hash of the name (4); ARGV[2] = name.
-- Reply: 0 | parent's attributes (64) | inode (8) | its attributes (none if it is damaged).
-- Errors: ESTALE, ENOTDIR, ENOENT.
local A = ARGV[1]
local pkey, pfield, pl = where(A)
local pattr = call('HGET', pkey, pfield)
if not pattr then return '\116' end
local pmode, _, _, _, _, _, buckets = unpack('>I2I2I4I4I4I4I4', pattr)
if pmode < 16384 or pmode >= 20480 then return '\20' end
local there = call('HGET', bucket(pl, unpack('>I4', A, 9), buckets), ARGV[2])
if not there then return '\2' end
local key, field = where(there)
return '\0' .. pattr .. sub(there, 1, 8) .. (call('HGET', key, field) or '')
