-- Sets the limits of an owner, a group or a directory tree.
-- ARGV[1] = 'u', 'g' or 'p'; ARGV[2] = id (decimal), or the root of a tree (8); ARGV[3], ARGV[4] = most
-- inodes and most bytes (decimal, 0 = no limit), '-' leaves one as it is.
-- Reply: 0 | for a tree its number (8) | 1 if its content has to be counted (see quota_tree.lua).
-- Errors: ESTALE, ENOTDIR, EBUSY (inside another such tree), ENODATA (owners are not counted).
-- Invariants: no tree lies in another; numbers of trees are never used again. May run twice.
local q = borders()
local kind, id = ARGV[1], ARGV[2]
local extras = tonumber(call('HGET', C, 'extras') or '0')
local reply, field, record, state = '\0', kind .. id, nil, ''
if kind == 'p' then
  local key, afield, l = where(id)
  local attr = call('HGET', key, afield)
  if not attr then return '\116' end
  local mode, flags, nlink = unpack('>I2I2I4', attr)
  if mode < 16384 or mode >= 20480 then return '\20' end
  if nlink == 0 then return '\116' end
  local tree = q.tree_of(flags, l)
  if tree then
    if sub(q.records[tree], 33, 40) ~= id then return '\16' end
    field = tree
  else
    -- A tree of its own, as yet of one inode.
    field = fmt('p%d', call('HINCRBY', C, 'next_tree', 1))
    q.records[field] = pack('>I8I8I8I8', 1, 0, 0, 0) .. id .. '\1'
    call('HSET', key, afield, q.moved(id, attr, l, field))
  end
  reply = '\0' .. pack('>I8', tonumber(sub(field, 2))) .. sub(q.records[field], 41, 41)
  record = q.records[field]
else
  if extras % 2 == 0 then return '\61' end
  record = call('HGET', P .. 'u', field) or pack('>I8I8I8I8', 0, 0, 0, 0)
end
local inodes, bytes, most_inodes, most_bytes = unpack('>I8I8I8I8', record)
if ARGV[3] ~= '-' then most_inodes = tonumber(ARGV[3]) end
if ARGV[4] ~= '-' then most_bytes = tonumber(ARGV[4]) end
if kind ~= 'p' and inodes + bytes + most_inodes + most_bytes == 0 then
  call('HDEL', P .. 'u', field)
else
  call('HSET', P .. 'u', field,
    pack('>I8I8I8I8', inodes, bytes, most_inodes, most_bytes) .. sub(record, 33))
end
return reply
