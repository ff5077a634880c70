-- How far the moving of blocks to where the ring's table has them is.
-- ARGV[1] = the coordinator's token (8) | epoch that is being filled (8)
--           | what (1: 0 note, 1 no more commits under epochs before it, 2 the end);
-- ARGV[2] = note: the new record; end: node list for the record, or empty.
-- Reply: 0. EPERM: another coordinates now. EEXIST | epoch (8): the ring has another by now.
-- ENOENT: nothing is being moved.
-- Invariant: tables before this epoch are forgotten only after commits under them have been refused
-- and whatever was committed until then has been looked for.
local A = ARGV[1]
if not coordinates(sub(A, 1, 8)) then return '\1' end
local epoch = tonumber(call('HGET', C, 'epoch') or '0')
if epoch ~= unpack('>I8', A, 9) then return '\17' .. pack('>I8', epoch) end
if call('EXISTS', P .. 'mv') == 0 then return '\2' end
call('DEL', P .. '~')  -- so that this works when memory is full
local what = string.byte(A, 17)
if what == 0 then
  call('SET', P .. 'mv', ARGV[2])
elseif what == 1 then
  call('HSET', C, 'floor', epoch)
else
  call('DEL', P .. 'mv', P .. 'former')
  if ARGV[2] ~= '' then call('HSET', P .. 'v', 'nodes', ARGV[2]) end
  tell_ring()
end
return '\0'
