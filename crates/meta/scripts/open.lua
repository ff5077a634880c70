-- Attributes and data of a file, or where they are.
-- ARGV[1] = inode (8) | session (8) | ctime (8) and size (8) that the caller has cached, or
-- nothing.
-- Reply: 0 | length (1) | attributes | 'U' unchanged, or 'D' | length of inline data (4) | inline
-- data | chunks known (4) | for each chunk with records: index (4) length (4) records.
-- Errors: ESTALE (no such inode, or an orphan that this session does not hold).
local A = ARGV[1]
local ino = sub(A, 1, 8)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local _, flags, nlink = unpack('>I2I2I4', attr)
if nlink == 0 and not call('ZSCORE', P .. 'h', sub(A, 1, 16)) then return '\116' end
local head = '\0' .. string.char(#attr) .. attr
if #A > 16 and sub(A, 17, 24) == sub(attr, 33, 40) and sub(A, 25, 32) == sub(attr, 17, 24) then
  return head .. 'U'
end
local name = fmt('%d', l)
local inline = flags % 2 == 1 and call('GET', P .. 'i' .. name) or ''
local out = { head .. 'D' .. pack('>I4', #inline) .. inline, '' }
local known, bytes, chunks = 0, 0, math.ceil(unpack('>I8', attr, 17) / 67108864)
if flags % 4 >= 2 then
  -- A few chunks at a time until the reply is big enough: the others are asked for when needed.
  while known < chunks and known < 64 and bytes < 16384 do
    local lists = call('HMGET', P .. 'x' .. name, known, known + 1, known + 2, known + 3)
    for i = 1, 4 do
      local records = lists[i]
      if records then
        bytes = bytes + #records
        out[#out + 1] = pack('>I4I4', known + i - 1, #records) .. records
      end
    end
    known = known + 4
  end
else
  known = chunks
end
-- With all of them known no index is beyond what is known.
out[2] = pack('>I4', known < chunks and known or 4294967295)
return concat(out)
