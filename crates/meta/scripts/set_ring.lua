-- Puts a new table in the place of the one that has the epoch expected.
-- ARGV[1] = epoch expected (decimal); ARGV[2] = table; ARGV[3] = node list for the record.
-- Reply: 0 | epoch (8), or EEXIST | the epoch that it has (8); nothing was changed.
-- Invariant: an epoch names one table for ever.
local epoch = tonumber(call('HGET', C, 'epoch') or '0')
if epoch ~= tonumber(ARGV[1]) then return '\17' .. pack('>I8', epoch) end
epoch = epoch + 1
call('SET', P .. 'ring', ARGV[2])
call('HSET', P .. 'v', 'nodes', ARGV[3])
call('HSET', C, 'epoch', epoch)
call('PUBLISH', P .. 'inv', '\0\0\0\0\0\0\0\0R' .. pack('>I8', epoch))
return '\0' .. pack('>I8', epoch)
