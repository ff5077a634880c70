-- Records of some chunks of a file.
-- ARGV[1] = inode (8); ARGV[2..] = chunks (decimal), at most 256.
-- Reply: 0 | length (1) | attributes | for each chunk: length (4) records.   Errors: ESTALE.
local key, field, l = where(ARGV[1])
local attr = call('HGET', key, field)
if not attr then return '\116' end
local out = { '\0' .. string.char(#attr) .. attr }
if #ARGV > 1 then
  local lists = call('HMGET', P .. 'x' .. fmt('%d', l), spread(ARGV, 2))
  for i = 1, #lists do
    local records = lists[i] or ''
    out[#out + 1] = pack('>I4', #records) .. records
  end
end
return concat(out)
