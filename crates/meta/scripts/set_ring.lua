-- Puts a new table in the place of the one that has the epoch expected.
-- ARGV[1] = epoch expected (8) | the coordinator's token, zero if it is not the coordinator who
--           asks (8) | most tables before it that are kept for readers, 0 if nothing moves (1)
--           | 1 even while blocks are being moved (1);
-- ARGV[2] = table; ARGV[3] = node list for the record; ARGV[4] = copies, or empty;
-- ARGV[5] = what is to be moved (opaque), or empty.
-- Reply: 0 | epoch (8). EEXIST | the epoch that it has (8). EBUSY | what is being moved. EPERM:
-- another coordinates now. Then nothing was changed.
-- Invariant: an epoch names one table for ever.
local A = ARGV[1]
local epoch = tonumber(call('HGET', C, 'epoch') or '0')
if epoch ~= unpack('>I8', A) then return '\17' .. pack('>I8', epoch) end
local token, most, even = sub(A, 9, 16), string.byte(A, 17, 18)
if token ~= '\0\0\0\0\0\0\0\0' and not coordinates(token) then return '\1' end
local moving = call('GET', P .. 'mv')
if moving and even ~= 1 then return '\16' .. moving end
call('DEL', P .. '~')  -- so that this works when memory is full
local old = call('GET', P .. 'ring')
if old and most > 0 then
  local former = pack('>I4', #old) .. old
  local before, at = call('GET', P .. 'former') or '', 1
  for _ = 2, most do
    if at > #before then break end
    local past = at + 4 + unpack('>I4', before, at)
    former = former .. sub(before, at, past - 1)
    at = past
  end
  call('SET', P .. 'former', former)
end
call('SET', P .. 'ring', ARGV[2])
call('HSET', P .. 'v', 'nodes', ARGV[3])
if ARGV[4] ~= '' then call('HSET', P .. 'v', 'replicas', ARGV[4]) end
if ARGV[5] ~= '' then call('SET', P .. 'mv', ARGV[5]) end
call('HSET', C, 'epoch', epoch + 1)
tell_ring()
return '\0' .. pack('>I8', epoch + 1)
