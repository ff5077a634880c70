-- Fragment: an inode comes into a directory that may count to another tree.
-- `single`: no name remains elsewhere; `same`: the name was in this directory before.
-- Returns an errno or nil; then whether the inode changes its tree, and the new one (nil = none).
-- What it owes for that is noted; `free` is set if no limit may stop it.
-- Invariant: a directory counts to the tree of its parent, unless it is itself the root of one, or
-- its tree is still being counted: then what comes in is marked, and counted in its turn.
local function borders()
  local q = quotas()
  if q.cross then return q end
  local function cross(ino, attr, l, pflags, pl, single, same)
    local mode, flags = unpack('>I2I2', attr)
    if flags % 1024 < 512 and pflags % 1024 < 512 then return nil, false end
    local from, to = q.tree_of(flags, l), q.tree_of(pflags, pl)
    if from == to or (same and from) then return nil, false end
    if from and sub(q.records[from], 33, 40) == ino then return to and 18 or nil, false end
    local counting = not from and to and sub(q.records[to], 41, 41) == '\1'
    if not counting then
      if same then return nil, false end
      if (mode >= 16384 and mode < 20480) or not single then return 18, false end
    end
    q.free = q.free or counting
    local size = mode >= 32768 and mode < 36864 and weigh(split(attr, 17)) or 0
    if from then q.owe(from, -1, -size) end
    if to then q.owe(to, 1, size) end
    return nil, true, to
  end

  -- Carries that out: gives the attributes with the flag as it must be.
  local function moved(ino, attr, l, tree)
    local mode, flags = unpack('>I2I2', attr)
    flags = flags - (flags % 1024 >= 512 and 512 or 0) + (tree and 512 or 0)
    q.join(l, tree)
    if tree and mode >= 16384 and mode < 20480 then
      call('RPUSH', P .. 'w' .. sub(tree, 2), ino .. '\0\0\0\0')
    end
    return sub(attr, 1, 2) .. pack('>I2', flags) .. sub(attr, 5)
  end

  q.cross, q.moved = cross, moved
  return q
end
