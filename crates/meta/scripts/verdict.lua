-- Which nodes are down, and what is known of each.
-- ARGV[1] = the coordinator's token (8) | version of the overlay that this follows (8);
-- ARGV[2] = overlay, empty to leave it; ARGV[3..] = name of a node, its record (empty: forgotten), ...
-- Reply: 0. EPERM: another coordinates now. EEXIST | version: the overlay is another.
if not coordinates(sub(ARGV[1], 1, 8)) then return '\1' end
local expected = unpack('>I8', ARGV[1], 9)
local version = tonumber(call('HGET', C, 'overlay') or '0')
if version ~= expected then return '\17' .. pack('>I8', version) end
call('DEL', P .. '~')  -- so that this works when memory is full
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    call('HDEL', P .. 'm', 'n' .. ARGV[i])
  else
    call('HSET', P .. 'm', 'n' .. ARGV[i], ARGV[i + 1])
  end
end
if ARGV[2] ~= '' then
  call('HSET', P .. 'm', 'over', ARGV[2])
  call('HSET', C, 'overlay', version + 1)
  tell_ring()
end
return '\0'
