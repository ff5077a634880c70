-- Turns the trash on or off.
-- ARGV[1] = seconds to keep (decimal, 0 = off); ARGV[2] = now (8); ARGV[3] = hash of `.trash` (4).
-- Reply: 0.   Errors: EEXIST (there is another `.trash` in the root).
-- Invariant: as create.lua's. Turned off, what is in the trash stays until it expires. May run twice.
local extras = tonumber(call('HGET', C, 'extras') or '0')
local had = extras % 8 >= 4 and 4 or 0
local keep, now = tonumber(ARGV[1]), ARGV[2]
if keep == 0 then
  call('DEL', P .. '~')  -- works when memory is full
  if extras - had == 0 then
    call('HDEL', C, 'extras')
  else
    call('HSET', C, 'extras', fmt('%d', extras - had))
  end
  return '\0'
end
local rkey, rfield, rl = where('\0\0\0\0\0\0\0\1')
local root = call('HGET', rkey, rfield)
if not root then return '\116' end
local _, _, links, _, _, entries, buckets = unpack('>I2I2I4I4I4I4I4', root)
local dkey = bucket(rl, unpack('>I4', ARGV[3]), buckets)
local there = call('HGET', dkey, '.trash')
local top
if there then
  local key, field = where(there)
  local attr = call('HGET', key, field)
  if not attr or unpack('>I2', attr, 3) % 2048 < 1024 then return '\17' end
  top = sub(there, 1, 8)
else
  local add = 0
  if extras % 2 == 1 then
    local q = quotas()
    q.owe('u0', 1, 0)
    q.owe('g0', 1, 0)
    q.settle()
    add = 256
  end
  top = pack('>I2I6', 0, call('HINCRBY', C, 'next_ino', 1) - 1)
  local key, field = where(top)
  call('HSET', key, field, pack('>I2I2I4I4I4I4I4', 16832, 1024 + add, 2, 0, 0, 0, 1)
    .. now .. now .. now .. now .. '\0\0\0\0\0\0\0\1')
  call('HSET', dkey, '.trash', top .. '\4')
  entries = entries + 1
  if entries > 40 * buckets then buckets = grow(rl, buckets) end
  call('HSET', rkey, rfield, sub(root, 1, 4) .. pack('>I4', links + 1) .. sub(root, 9, 16)
    .. pack('>I4I4', entries, buckets) .. now .. now .. sub(root, 41))
  call('HINCRBY', C, 'inodes', 1)
  call('PUBLISH', P .. 'inv', '\0\0\0\0\0\0\0\0A\0\0\0\0\0\0\0\1E\0\0\0\0\0\0\0\1\0\6.trash')
end
call('HSET', C, 'trash', top .. pack('>I4', keep), 'extras', fmt('%d', extras - had + 4))
return '\0'
