-- What a directory says about itself and what it has, at one moment. Changes nothing.
-- KEYS[1] = the shard's control record; ARGV[1] = group of 64 inodes, ARGV[2] = place in it,
-- ARGV[3] = number of the directory, ARGV[4] = most buckets to read (all decimal).
-- Reply: entries it says, links it says, names it has, subdirectories it has; or nil if it is
-- gone, or has too many buckets to read them at once.
local P = string.sub(KEYS[1], 1, -2)
local attr = redis.call('HGET', P .. 'a' .. ARGV[1], ARGV[2])
if not attr or #attr ~= 64 then return nil end
local links = struct.unpack('>I4', attr, 5)
local entries, buckets = struct.unpack('>I4I4', attr, 17)
if buckets > tonumber(ARGV[4]) then return nil end
local names, subdirs = 0, 0
for b = 0, buckets - 1 do
  local all = redis.call('HVALS', P .. 'd' .. ARGV[3] .. ':' .. b)
  names = names + #all
  for i = 1, #all do
    if string.byte(all[i], 9) == 4 then subdirs = subdirs + 1 end
  end
end
return { entries, links, names, subdirs }
