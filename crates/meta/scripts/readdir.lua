-- A part of a directory.
-- ARGV[1] = directory (8) | first place wanted, in the order of the bit-reversed hash (4)
--           | names wanted (4) | 1 with attributes (1).
-- Reply: 0 | directory's attributes (64) | first place that is not in this reply (8; 2^32 at the
-- end) | for each name: length (1) name | inode (8) type (1) | length (1) attributes.
-- Errors: ESTALE, ENOTDIR.
-- Invariant: a bucket holds exactly the names whose hash ends in the same bits, which is a run in
-- the order of the reversed hash, and splitting it cuts the run in two. So the place where a
-- reply ends stays right however the directory grows. At least one bucket a reply.
local A = ARGV[1]
local key, field, l = where(A)
local dattr = call('HGET', key, field)
if not dattr then return '\116' end
local mode, _, _, _, _, _, n = unpack('>I2I2I4I4I4I4I4', dattr)
if mode < 16384 or mode >= 20480 then return '\20' end
local place, want = unpack('>I4I4', A, 9)
local with = sub(A, 17, 17) == '\1'
local prefix = P .. 'd' .. fmt('%d', l) .. ':'
local names, values = {}, {}
while place < 4294967296 and #names < want do
  local b, span = bucket_at(place, n)
  local all = call('HGETALL', prefix .. b)
  for i = 1, #all, 2 do
    names[#names + 1] = all[i]
    values[#values + 1] = all[i + 1]
  end
  place = place - place % span + span
end
local attrs = {}
if with then
  local groups = {}
  for i = 1, #values do
    local akey, afield = where(values[i])
    local group = groups[akey]
    if not group then
      group = { {}, {} }
      groups[akey] = group
    end
    group[1][#group[1] + 1] = afield
    group[2][#group[2] + 1] = i
  end
  for akey, group in pairs(groups) do
    local fields, at = group[1], group[2]
    for first = 1, #fields, 1000 do
      local found = call('HMGET', akey, spread(fields, first, math.min(first + 999, #fields)))
      for i = 1, #found do attrs[at[first + i - 1]] = found[i] end
    end
  end
end
local out = { '\0' .. dattr .. pack('>I8', place) }
for i = 1, #names do
  local attr = attrs[i] or ''
  out[i + 1] = string.char(#names[i]) .. names[i] .. values[i] .. string.char(#attr) .. attr
end
return concat(out)
