-- Fragment: quotas. 256 in an inode's flags says that it is counted to its owner and its group, 512
-- that it is counted to a directory tree (a project; `y` tells which). Who has neither pays for a
-- comparison. `u` holds for each owner (`u`+uid), group (`g`+gid) and tree (`p`+number): inodes (8)
-- and bytes (8) used, most inodes (8) and most bytes (8), zero = no limit; of a tree also its root
-- (8) and 1 while what lies in it is still being counted (1).
-- A tree that has no record any more is none: what is marked as belonging to it counts nowhere.
-- `quotas()` makes the functions below, so that who needs none does not pay for them. Use: `owe` or
-- `charge` what changes, ask `over` before the first write, `settle` before `finish`.
local made
local function quotas()
  if made then return made end
  local owed, records = nil, {}

  local function owe(field, inodes, bytes)
    owed = owed or {}
    local o = owed[field]
    if o then
      o[1], o[2] = o[1] + inodes, o[2] + bytes
    else
      owed[field] = { inodes, bytes }
    end
  end

  -- Gets the records that are not known yet.
  local function fetch()
    local fields = {}
    for field in pairs(owed) do
      if records[field] == nil then fields[#fields + 1] = field end
    end
    for from = 1, #fields, 1000 do
      local to = math.min(from + 999, #fields)
      local found = call('HMGET', P .. 'u', spread(fields, from, to))
      for i = from, to do records[fields[i]] = found[i - from + 1] end
    end
  end

  -- Which tree an inode counts to, `p` and its number; nil if to none.
  local function tree_of(flags, l)
    if flags % 1024 < 512 then return nil end
    local p = call('HGET', P .. fmt('y%d', (l - l % 64) / 64), fmt('%d', l % 64))
    if not p then return nil end
    p = 'p' .. p
    if records[p] == nil then records[p] = call('HGET', P .. 'u', p) end
    return records[p] and p or nil
  end

  -- Adds to what an inode with these attributes counts to.
  local function charge(attr, l, inodes, bytes)
    local _, flags, _, uid, gid = unpack('>I2I2I4I4I4', attr)
    if flags % 512 >= 256 then
      owe(fmt('u%d', uid), inodes, bytes)
      owe(fmt('g%d', gid), inodes, bytes)
    end
    local tree = tree_of(flags, l)
    if tree then owe(tree, inodes, bytes) end
  end

  -- Whether a limit forbids what is owed. Limits of owners and groups do not bind the privileged.
  local function over(privileged)
    if not owed then return false end
    fetch()
    for field, o in pairs(owed) do
      local record = records[field]
      if record and (not privileged or sub(field, 1, 1) == 'p') then
        local inodes, bytes, most_inodes, most_bytes = unpack('>I8I8I8I8', record)
        if o[1] > 0 and most_inodes > 0 and inodes + o[1] > most_inodes then return true end
        if o[2] > 0 and most_bytes > 0 and bytes + o[2] > most_bytes then return true end
      end
    end
    return false
  end

  local function settle()
    if not owed then return end
    fetch()
    for field, o in pairs(owed) do
      local record, tree = records[field], sub(field, 1, 1) == 'p'
      if (record or not tree) and (o[1] ~= 0 or o[2] ~= 0) then
        local inodes, bytes, most_inodes, most_bytes = 0, 0, 0, 0
        if record then inodes, bytes, most_inodes, most_bytes = unpack('>I8I8I8I8', record) end
        inodes, bytes = math.max(0, inodes + o[1]), math.max(0, bytes + o[2])
        if not tree and inodes + bytes + most_inodes + most_bytes == 0 then
          call('HDEL', P .. 'u', field)
          records[field] = false
        else
          record = pack('>I8I8I8I8', inodes, bytes, most_inodes, most_bytes) .. sub(record or '', 33)
          call('HSET', P .. 'u', field, record)
          records[field] = record
        end
      end
    end
    owed = nil
  end

  -- Writes down which tree an inode is in; nil takes it out.
  local function join(l, tree)
    local key, field = P .. fmt('y%d', (l - l % 64) / 64), fmt('%d', l % 64)
    if tree then call('HSET', key, field, sub(tree, 2)) else call('HDEL', key, field) end
  end

  -- What a new inode counts to: the flags it gets and the tree it joins. Nothing is checked yet.
  local function enrol(pflags, pl, uid, gid, bytes)
    local add = 0
    if S[8] and S[8] % 2 == 1 then
      add = 256
      owe(fmt('u%d', uid), 1, bytes)
      owe(fmt('g%d', gid), 1, bytes)
    end
    local tree = tree_of(pflags, pl)
    if tree then
      add = add + 512
      owe(tree, 1, bytes)
    end
    return add, tree
  end

  -- An inode that is gone counts no more. The quota of a tree goes with its root.
  local function discharge(ino, attr, l, size)
    local flags = unpack('>I2', attr, 3)
    if flags % 1024 < 256 then return end
    charge(attr, l, -1, -size)
    settle()
    if flags % 1024 >= 512 then
      local tree = tree_of(flags, l)
      if tree and sub(records[tree], 33, 40) == ino then
        call('HDEL', P .. 'u', tree)
        call('DEL', P .. 'w' .. sub(tree, 2))
      end
      join(l)
    end
  end

  made = {
    records = records, owe = owe, tree_of = tree_of, charge = charge, over = over, settle = settle,
    join = join, enrol = enrol, discharge = discharge, forget = function() owed = nil end,
  }
  return made
end
