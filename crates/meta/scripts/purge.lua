-- Removes an orphan that nobody has open. The caller says by calling that it has it not open.
-- ARGV[2] = inode (8).
-- Reply: 0 or 246 | 0 done, 1 held, 2 there is none, 3 more to do: send it again under the next
-- number, 4 a directory with names in it: the place of a clone that was not finished | freed
-- extent records.
-- Invariant: every other session has acknowledged the orphan (`q`), nobody holds it (`h`).
-- At most 256 chunks a call. The first write is a deletion.
local ino = sub(ARGV[2], 1, 8)
local order = call('ZSCORE', P .. 'o', ino)
if not order then return '\246\2' end
if #call('ZRANGEBYLEX', P .. 'h', '[' .. ino, '[' .. ino .. '\255\255\255\255\255\255\255\255\255',
    'LIMIT', 0, 1) > 0 then
  return '\246\1'
end
local acks = call('ZRANGE', P .. 'q', 0, 1, 'WITHSCORES')
local least = acks[2]
if acks[1] == sid then least = acks[4] end
if least and tonumber(least) < tonumber(order) then return '\246\1' end

local key, field, l = where(ino)
local attr = call('HGET', key, field)
local name, freed, bytes, size = fmt('%d', l), {}, 0, 0
local mode, flags, _, _, _, entries = 0, 0, 0, 0, 0, 0
if attr then mode, flags, _, _, _, entries = unpack('>I2I2I4I4I4I4', attr) end
local is_dir = mode >= 16384 and mode < 20480
if is_dir and entries > 0 then return '\246\4' end
local xkey = P .. 'x' .. name
local chunks = call('HLEN', xkey)
if chunks > 0 then
  local some = chunks <= 256 and call('HKEYS', xkey) or call('HSCAN', xkey, 0, 'COUNT', 256)[2]
  -- HSCAN gives fields and values in turn; HKEYS fields.
  for i = 1, #some, chunks <= 256 and 1 or 2 do
    if bytes > 262144 or #freed >= 256 then break end
    local records = call('HGET', xkey, some[i])
    if records then
      bytes = bytes + #records
      call('HDEL', xkey, some[i])
      freed[#freed + 1] = flags % 32 >= 16 and let_go(records, '') or records
    end
  end
  if call('HLEN', xkey) > 0 then return finish('\0\3' .. table.concat(freed), '', 0, 0) end
end
call('DEL', P .. 'i' .. name, P .. 'e' .. name, P .. 'k' .. name)
call('ZREM', P .. 'o', ino)
if not attr then return finish('\0\0' .. table.concat(freed), '', 0, 0) end
call('HDEL', key, field)
if mode >= 32768 and mode < 36864 then size = weigh(split(attr, 17)) end
if flags % 1024 >= 256 then quotas().discharge(ino, attr, l, size) end
return finish('\0\0' .. table.concat(freed), '', -1, -size)
