-- Counts inodes to their owners and groups, or takes them out, as `extras` says now.
-- ARGV[1..] = groups of 64 inodes (decimal), at most 16.   Reply: 0.
-- Invariant: an inode is counted if and only if 256 is in its flags. May run twice.
local q = quotas()
local on = tonumber(call('HGET', C, 'extras') or '0') % 2 == 1
for i = 1, #ARGV do
  local key = P .. 'a' .. ARGV[i]
  local all = call('HGETALL', key)
  for j = 1, #all, 2 do
    local attr = all[j + 1]
    local mode, flags, _, uid, gid = unpack('>I2I2I4I4I4', attr)
    if (flags % 512 >= 256) ~= on then
      local size = mode >= 32768 and mode < 36864 and weigh(split(attr, 17)) or 0
      local one = on and 1 or -1
      q.owe(fmt('u%d', uid), one, one * size)
      q.owe(fmt('g%d', gid), one, one * size)
      call('HSET', key, all[j],
        sub(attr, 1, 2) .. pack('>I2', flags + one * 256) .. sub(attr, 5))
    end
  end
end
q.settle()
return '\0'
