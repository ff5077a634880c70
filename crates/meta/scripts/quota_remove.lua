-- Ends the quota of a tree at once. The marks in it mean nothing from then on; quota_clear.lua
-- removes them.
-- ARGV[1] = its root (8).   Reply: 0.   Errors: ENODATA (it has none).
local q = quotas()
local key, field, l = where(ARGV[1])
local attr = call('HGET', key, field)
local tree = attr and q.tree_of(unpack('>I2', attr, 3), l)
if not tree or sub(q.records[tree], 33, 40) ~= ARGV[1] then return '\61' end
call('HDEL', P .. 'u', tree)
call('DEL', P .. 'w' .. sub(tree, 2))
return '\0'
