-- The next chunks of a file that have records: to find data and holes.
-- ARGV[1] = inode (8); ARGV[2] = first chunk (decimal).
-- Reply: 0 | length (1) | attributes | length of inline data (4) | first chunk of which nothing is
-- said, all ones if there is none (8) | for each chunk with records: index (8) length (4) records.
-- Errors: ESTALE.
local key, field, l = where(ARGV[1])
local attr = call('HGET', key, field)
if not attr then return '\116' end
local _, flags = unpack('>I2I2', attr)
local name, from = fmt('%d', l), tonumber(ARGV[2])
local inline = flags % 2 == 1 and call('STRLEN', P .. 'i' .. name) or 0
local out, chunks, bytes, known = { '\0' }, {}, 0, string.rep('\255', 8)
if flags % 4 >= 2 then
  local all = call('HKEYS', P .. 'x' .. name)
  for i = 1, #all do
    local c = tonumber(all[i])
    if c >= from then chunks[#chunks + 1] = c end
  end
  table.sort(chunks)
  for i = 1, #chunks do
    if i > 64 or bytes > 65536 then
      known = pack('>I8', chunks[i])
      break
    end
    local records = call('HGET', P .. 'x' .. name, fmt('%d', chunks[i]))
    bytes = bytes + #records
    out[#out + 1] = pack('>I8I4', chunks[i], #records) .. records
  end
end
out[1] = '\0' .. string.char(#attr) .. attr .. pack('>I4', inline) .. known
return concat(out)
