-- Makes written data part of a file.
-- ARGV[2] = inode (8) | kind (1: 0 inline, 1 extents, 2 append inline, 3 append extents)
--           | 1 to take the set-id bits away, 2 if the writer is privileged (1)
--           | ring epoch written under (8) | mtime (8) | largest inline size (4);
-- inline: ARGV[3..] = offset (8), data, ...   extents: chunk (decimal), records, ...
-- append inline: data   append extents: records, their pos without meaning.
-- Reply: 0 | attributes (56) | where appended data begin, the old size for the other kinds (8)
-- | most records of a chunk touched (4) | ring epoch (8) | ctime before (8).
-- Not done: 249 | attributes: needs a slice. 248 | attributes: an appended slice would lie across
-- the border of a chunk. 247 | epoch: written under one that readers do not look at any more.
-- Errors: ESTALE, EISDIR, EINVAL, EFBIG, ENOSPC, EDQUOT.
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
local old_chunk, old_pos = split(attr, 17)
if mode >= 16384 and mode < 20480 then return '\21' end
if mode < 32768 or mode >= 36864 then return '\22' end
-- Data inline depend on no ring: the epoch of their reply is 0.
local epoch = '0'
local top_chunk, top_pos, name = old_chunk, old_pos, fmt('%d', l)
local writes = {}
if kind % 2 == 1 then
  local ring = call('HMGET', C, 'epoch', 'floor')
  epoch = ring[1]
  local written = unpack('>I8', A, 11)
  if written + 1 < tonumber(epoch) or written < tonumber(ring[2] or '0') then
    return '\247' .. pack('>I8', tonumber(epoch))
  end
  if kind == 1 then
    for i = 3, #ARGV, 2 do
      local records, chunk = ARGV[i + 1], tonumber(ARGV[i])
      if chunk >= top_chunk then
        local last = chunk == top_chunk and top_pos or 0
        for at = 1, #records, 24 do
          local pos, len = unpack('>I4I4', records, at)
          if pos + len > last then last = pos + len end
        end
        top_chunk, top_pos = chunk, last
        if last == CHUNK then top_chunk, top_pos = chunk + 1, 0 end
      end
      writes[#writes + 1] = ARGV[i]
      writes[#writes + 1] = records
    end
  else
    local records, before = ARGV[3], nil
    for at = 1, #records, 24 do
      local len = unpack('>I4', records, at + 4)
      local pos = top_pos
      if pos + len > CHUNK then return '\248' .. attr end
      local chunk, slice = fmt('%d', top_chunk), sub(records, at + 8, at + 15)
      -- Nor may a slice go on in the next chunk: a slice belongs to one.
      if slice == before and writes[#writes - 1] ~= chunk then return '\248' .. attr end
      before = slice
      local record = pack('>I4', pos) .. sub(records, at + 4, at + 23)
      if writes[#writes - 1] == chunk then
        writes[#writes] = writes[#writes] .. record
      else
        writes[#writes + 1] = chunk
        writes[#writes + 1] = record
      end
      top_pos = pos + len
      if top_pos == CHUNK then top_chunk, top_pos = top_chunk + 1, 0 end
      if top_chunk > 137438953471 then return '\27' end
    end
  end
else
  if flags % 4 >= 2 then return '\249' .. attr end
  if kind == 0 then
    for i = 3, #ARGV, 2 do
      local last = unpack('>I8', ARGV[i]) + #ARGV[i + 1]
      if last > inline_max then return '\249' .. attr end
      if old_chunk == 0 and last > top_pos then top_pos = last end
    end
  else
    if old_chunk > 0 or old_pos + #ARGV[3] > inline_max then return '\249' .. attr end
    top_pos = old_pos + #ARGV[3]
  end
end
local more = weigh(top_chunk, top_pos) - weigh(old_chunk, old_pos)
if more > 0 and S[7] and S[7] ~= '0' and S[5] + more > tonumber(S[7]) then return '\28' end
local q = more > 0 and flags % 1024 >= 256 and quotas()
if q then
  q.charge(attr, l, 0, more)
  if q.over(kill >= 2) then return '\122' end
end

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
    call('SETRANGE', ikey, fmt('%d', old_pos), ARGV[3])
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
if kill % 2 == 1 then mode = without_set_id(mode) end
local previous, old = sub(attr, 33, 40), sub(attr, 17, 24)
attr = pack('>I2I2', mode, flags) .. sub(attr, 5, 16) .. join(top_chunk, top_pos) .. mtime
  .. after(mtime, previous) .. sub(attr, 41)
call('HSET', key, field, attr)
if q then q.settle() end
return finish('\0' .. attr .. old .. pack('>I4I8', longest / 24, tonumber(epoch)) .. previous,
  'A' .. ino, 0, more)
