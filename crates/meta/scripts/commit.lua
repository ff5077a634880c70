-- Makes written data part of a file.
-- ARGV[2] = inode (8) | kind (1: 0 inline, 1 extents, 2 append inline, 3 append extents)
--           | 1 to take the set-id bits away (1) | ring epoch written under (8) | mtime (8)
--           | largest inline size (4);
-- inline: ARGV[3..] = offset (8), data, ...   extents: chunk (decimal), records, ...
-- append inline: data   append extents: records, their pos without meaning.
-- Reply: 0 | attributes (56) | where appended data begin, the old size for the other kinds (8)
-- | most records of a chunk touched (4) | ring epoch (8) | ctime before (8).
-- Not done: 249 | attributes: needs a slice. 248 | attributes: an appended slice would lie across
-- the border of a chunk. 247 | epoch: written under one that readers do not look at any more.
-- Errors: ESTALE, EISDIR, EINVAL, ENOSPC.
-- Invariants: a slice belongs to one chunk; a file with extents gets no more inline data, so that
-- inline data always are the oldest layer; the position of appended data is the size at the
-- moment when this runs.
local A = ARGV[2]
local ino = sub(A, 1, 8)
local kind, kill = string.byte(A, 9, 10)
local mtime, inline_max = sub(A, 19, 26), unpack('>I4', A, 27)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local mode, flags = unpack('>I2I2', attr)
local size = unpack('>I8', attr, 17)
if mode >= 16384 and mode < 20480 then return '\21' end
if mode < 32768 or mode >= 36864 then return '\22' end
-- Data inline depend on no ring: the epoch of their reply is 0.
local epoch = kind % 2 == 1 and call('HGET', C, 'epoch') or '0'
local old, top, name, CHUNK = size, size, fmt('%d', l), 67108864
local writes = {}
if kind % 2 == 1 then
  if unpack('>I8', A, 11) + 1 < tonumber(epoch) then
    return '\247' .. pack('>I8', tonumber(epoch))
  end
  if kind == 1 then
    for i = 3, #ARGV, 2 do
      local records, base = ARGV[i + 1], tonumber(ARGV[i]) * CHUNK
      for at = 1, #records, 24 do
        local pos, len = unpack('>I4I4', records, at)
        if base + pos + len > top then top = base + pos + len end
      end
      writes[#writes + 1] = ARGV[i]
      writes[#writes + 1] = records
    end
  else
    local records = ARGV[3]
    for at = 1, #records, 24 do
      local len = unpack('>I4', records, at + 4)
      local pos = top % CHUNK
      if pos + len > CHUNK then return '\248' .. attr end
      local chunk = fmt('%d', (top - pos) / CHUNK)
      local record = pack('>I4', pos) .. sub(records, at + 4, at + 23)
      if writes[#writes - 1] == chunk then
        writes[#writes] = writes[#writes] .. record
      else
        writes[#writes + 1] = chunk
        writes[#writes + 1] = record
      end
      top = top + len
    end
  end
else
  if flags % 4 >= 2 then return '\249' .. attr end
  if kind == 0 then
    for i = 3, #ARGV, 2 do
      local last = unpack('>I8', ARGV[i]) + #ARGV[i + 1]
      if last > inline_max then return '\249' .. attr end
      if last > top then top = last end
    end
  else
    if old + #ARGV[3] > inline_max then return '\249' .. attr end
    top = old + #ARGV[3]
  end
end
if top > old and S[7] and S[7] ~= '0' and S[5] + top - old > tonumber(S[7]) then return '\28' end

local longest = 0
if kind % 2 == 1 then
  local xkey = P .. 'x' .. name
  for i = 1, #writes, 2 do
    local records = writes[i + 1]
    if flags % 4 >= 2 then records = (call('HGET', xkey, writes[i]) or '') .. records end
    call('HSET', xkey, writes[i], records)
    if #records > longest then longest = #records end
  end
  if flags % 4 < 2 and #writes > 0 then flags = flags + 2 end
else
  local ikey, wrote = P .. 'i' .. name, false
  if kind == 2 then
    call('SETRANGE', ikey, fmt('%d', old), ARGV[3])
    wrote = #ARGV[3] > 0
  else
    for i = 3, #ARGV, 2 do
      local at = unpack('>I8', ARGV[i])
      if at == 0 and flags % 2 == 0 and not wrote and #ARGV[i + 1] > 0 then
        call('SET', ikey, ARGV[i + 1])
      else
        call('SETRANGE', ikey, fmt('%d', at), ARGV[i + 1])
      end
      wrote = wrote or #ARGV[i + 1] > 0
    end
  end
  if wrote and flags % 2 == 0 then flags = flags + 1 end
end
if kill == 1 then
  -- Set-user-id always; set-group-id only where it is not the mark of mandatory locking.
  if mode % 4096 >= 2048 then mode = mode - 2048 end
  if mode % 2048 >= 1024 and mode % 16 >= 8 then mode = mode - 1024 end
end
local previous = sub(attr, 33, 40)
attr = pack('>I2I2', mode, flags) .. sub(attr, 5, 16) .. pack('>I8', top) .. mtime
  .. after(mtime, previous) .. sub(attr, 41)
call('HSET', key, field, attr)
return finish('\0' .. attr .. pack('>I8I4I8', old, longest / 24, tonumber(epoch)) .. previous,
  'A' .. ino, 0, top - old)
