-- Makes a range of a file read as zeros, and gives back what it held.
-- ARGV[2] = inode (8) | 1 if the file grows to the end of the range, 2 if the caller is privileged,
--           4 to take the set-id bits away (1) | first byte (8) | one past the last (8) | now (8).
-- Reply: 0 | where to go on, 0 when all is done: send it again from there under the next number
-- (8) | most records of a chunk touched (4) | 1 if a record was hidden whole (1) | length (1)
-- | attributes | ctime before (8) | freed extent records.
-- Errors: ESTALE, EISDIR, EINVAL (no file), ENOSPC, EDQUOT.
-- Invariants: whole chunks are dropped, at most 256 a call; in the others a hole covers the range;
-- inline data are cut or overwritten. The size grows in the last call.
local A = ARGV[2]
local ino = sub(A, 1, 8)
local from_chunk, from_pos = split(A, 10)
local to_chunk, to_pos = split(A, 18)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local mode, flags = unpack('>I2I2', attr)
if mode >= 16384 and mode < 20480 then return '\21' end
if mode < 32768 or mode >= 36864 then return '\22' end
local chunk, pos = split(attr, 17)
local size, more = sub(attr, 17, 24), 0
-- Nothing lies beyond the end.
local beyond = to_chunk > chunk or to_chunk == chunk and to_pos >= pos
local last_chunk, last_pos = to_chunk, to_pos
if beyond then
  if string.byte(A, 9) % 2 == 1 then
    size, more = sub(A, 18, 25), weigh(to_chunk, to_pos) - weigh(chunk, pos)
  end
  last_chunk, last_pos = chunk, pos
end
if more > 0 and S[7] and S[7] ~= '0' and S[5] + more > tonumber(S[7]) then return '\28' end
local q = more > 0 and flags % 1024 >= 256 and quotas()
if q then
  q.charge(attr, l, 0, more)
  if q.over(string.byte(A, 9) % 4 >= 2) then return '\122' end
end
local any = from_chunk < last_chunk or from_chunk == last_chunk and from_pos < last_pos

call('DEL', P .. '~')  -- so that the writes that follow are let through when memory is full
local name = fmt('%d', l)
local freed, resume, longest, hidden = {}, 0, 0, 0
if any and flags % 4 >= 2 then
  local xkey = P .. 'x' .. name
  local lowest, highest = from_chunk, last_pos == 0 and last_chunk - 1 or last_chunk
  local chunks, bytes = {}, 0
  local count = call('HLEN', xkey)
  -- A sparse file may have few chunks and many numbers between them.
  if count <= 65536 or (highest - lowest) / 4 > count then
    local all = call('HKEYS', xkey)
    for i = 1, #all do
      local c = tonumber(all[i])
      if c >= lowest and c <= highest then chunks[#chunks + 1] = c end
    end
    table.sort(chunks)
  else
    for c = lowest, math.min(highest, lowest + 256) do chunks[#chunks + 1] = c end
  end
  for i = 1, #chunks do
    local c = chunks[i]
    if i > 256 or bytes > 262144 then
      resume, size, more = c, sub(attr, 17, 24), 0
      if q then q.forget() end
      break
    end
    local chunk = fmt('%d', c)
    local records = call('HGET', xkey, chunk)
    if records then
      local low, high = c == from_chunk and from_pos or 0, c == last_chunk and last_pos or CHUNK
      bytes = bytes + #records
      if low == 0 and (high == CHUNK or beyond) then
        call('HDEL', xkey, chunk)
        freed[#freed + 1] = flags % 32 >= 16 and let_go(records, '') or records
      else
        local touched = false
        for at = 1, #records, 24 do
          local pos, len, high_slice, low_slice = unpack('>I4I4I4I4', records, at)
          local hole = high_slice == 0 and low_slice == 0
          if pos < high and pos + len > low then
            -- The newest record tells last: a hole over all of it needs no other.
            touched = not (hole and pos <= low and pos + len >= high)
            if not hole and pos >= low and pos + len <= high then hidden = 1 end
          end
        end
        if touched then
          records = records .. pack('>I4I4I8I4I4', low, high - low, 0, 0, 0)
          call('HSET', xkey, chunk, records)
        end
        if #records > longest then longest = #records end
      end
    end
  end
end
if any and from_chunk == 0 and flags % 2 == 1 then
  local from, last = from_pos, last_chunk > 0 and CHUNK or last_pos
  local ikey = P .. 'i' .. name
  local had = call('STRLEN', ikey)
  if from == 0 and last >= had then
    call('DEL', ikey)
    flags = flags - 1
  elseif from < had and last >= had then
    call('SET', ikey, call('GETRANGE', ikey, 0, from - 1))
  elseif from < had then
    call('SETRANGE', ikey, from, string.rep('\0', last - from))
  end
end
if string.byte(A, 9) >= 4 then mode = without_set_id(mode) end
local now, previous = sub(A, 26, 33), sub(attr, 33, 40)
attr = pack('>I2I2', mode, flags) .. sub(attr, 5, 16) .. size .. now
  .. after(now, previous) .. sub(attr, 41)
call('HSET', key, field, attr)
if q then q.settle() end
return finish('\0' .. join(resume, 0) .. pack('>I4', longest / 24) .. char(hidden, #attr) .. attr
  .. previous .. table.concat(freed), 'A' .. ino, 0, more)
