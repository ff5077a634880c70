-- Fragment: an inode that has lost a name. `attr` has the lowered nlink already.
-- victim: 0 = the caller does not know it, 1 = it has `known` not open, 2 = it has it open.
-- Returns the attributes, the fate byte (0 linked, 1 orphan, 2 purged), the slices freed, and the
-- changes of the counters. Invariant: while a session may have an inode open it stays: with one
-- session its word is enough, with more the inode is an orphan until all have said so.
-- Must be called after the script's first write, which is a deletion: the writes here would be
-- refused when memory is full if they came first.
local function drop(ino, attr, victim, known)
  local key, field, l = where(ino)
  local mode, flags, nlink = unpack('>I2I2I4', attr)
  local size = mode >= 32768 and mode < 36864 and weigh(split(attr, 17)) or 0
  if nlink > 0 then
    call('HSET', key, field, attr)
    return attr, '\0', '', 0, 0
  end
  local name = fmt('%d', l)
  local extents = flags % 4 >= 2
  if S[3] == '1' and victim == 1 and known == ino
      and (not extents or call('HLEN', P .. 'x' .. name) <= 16) then
    local freed = ''
    call('HDEL', key, field)
    if extents then
      local chunks = call('HVALS', P .. 'x' .. name)
      if flags % 32 >= 16 then
        for i = 1, #chunks do chunks[i] = let_go(chunks[i], '') end
      end
      freed = table.concat(chunks)
      call('DEL', P .. 'x' .. name)
    end
    if flags % 2 == 1 then call('DEL', P .. 'i' .. name) end
    if flags % 8 >= 4 then call('DEL', P .. 'e' .. name) end
    if flags % 1024 >= 256 then quotas().discharge(ino, attr, l, size) end
    return attr, '\2', freed, -1, -size
  end
  if flags % 16 < 8 then flags = flags + 8 end
  attr = sub(attr, 1, 2) .. pack('>I2I4', flags, 0) .. sub(attr, 9)
  call('HSET', key, field, attr)
  call('ZADD', P .. 'o', call('HINCRBY', C, 'oseq', 1), ino)
  if victim == 2 then call('ZADD', P .. 'h', 0, ino .. sid) end
  return attr, '\1', '', 0, 0
end
