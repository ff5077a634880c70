-- Removes marks of trees that have no quota any more.
-- ARGV[1..] = groups of 64 inodes (decimal), at most 64.   Reply: 0.
-- Invariant: what counts to a tree that has a record stays. May run twice.
local q = quotas()
for i = 1, #ARGV do
  local key = P .. 'y' .. ARGV[i]
  local all = call('HGETALL', key)
  for j = 1, #all, 2 do
    local tree = 'p' .. all[j + 1]
    if q.records[tree] == nil then q.records[tree] = call('HGET', P .. 'u', tree) end
    if not q.records[tree] then
      call('HDEL', key, all[j])
      local attr = call('HGET', P .. 'a' .. ARGV[i], all[j])
      local flags = attr and unpack('>I2', attr, 3) or 0
      if flags % 1024 >= 512 then
        call('HSET', P .. 'a' .. ARGV[i], all[j],
          sub(attr, 1, 2) .. pack('>I2', flags - 512) .. sub(attr, 5))
      end
    end
  end
end
return '\0'
