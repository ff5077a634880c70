-- Marks and counts a part of what lies in a tree that has got a quota.
-- ARGV[1] = its number (decimal).
-- Reply: 0 | 1 if there is more to do.   Errors: ENOENT (no such quota), EBUSY (another lies in it).
-- Invariants: `w<number>` lists the directories that are marked and whose names are still to be marked,
-- each with the place to go on from. From the moment when a directory is marked, what comes into it
-- is marked as it comes, so each inode is counted once. Bounded: some 512 names a call. May run twice.
local q = borders()
local tree, w = 'p' .. ARGV[1], P .. 'w' .. ARGV[1]
q.records[tree] = call('HGET', P .. 'u', tree)
if not q.records[tree] then
  call('DEL', w)
  return '\2'
end
local todo = 512
while todo > 0 do
  local head = call('LINDEX', w, 0)
  if not head then break end
  local dir, place = sub(head, 1, 8), unpack('>I4', head, 9)
  local dkey, dfield, dl = where(dir)
  local dattr = call('HGET', dkey, dfield)
  local n = dattr and unpack('>I4', dattr, 21) or 0
  if n == 0 or q.tree_of(unpack('>I2', dattr, 3), dl) ~= tree then place = 4294967296 end
  while place < 4294967296 and todo > 0 do
    local b, span = bucket_at(place, n)
    local entries = call('HVALS', P .. fmt('d%d:%d', dl, b))
    for i = 1, #entries do
      local ino = sub(entries[i], 1, 8)
      local key, field, l = where(ino)
      local attr = call('HGET', key, field)
      if attr then
        local mode, flags = unpack('>I2I2', attr)
        local other = q.tree_of(flags, l)
        if not other then
          q.owe(tree, 1, mode >= 32768 and mode < 36864 and weigh(split(attr, 17)) or 0)
          call('HSET', key, field, q.moved(ino, attr, l, tree))
        elseif other ~= tree and mode >= 16384 and mode < 20480 then
          call('HDEL', P .. 'u', tree)
          call('DEL', w)
          return '\16'
        end
      end
    end
    todo = todo - #entries - 1
    place = place - place % span + span
  end
  if place < 4294967296 then
    call('LSET', w, 0, dir .. pack('>I4', place))
  else
    call('LPOP', w)
    todo = todo - 1
  end
end
q.settle()
if call('EXISTS', w) == 1 then return '\0\1' end
call('HSET', P .. 'u', tree, sub(q.records[tree], 1, 40) .. '\0')
return '\0\0'
