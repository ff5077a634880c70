-- Fragment: one more bucket for directory `l` that has `n`. Half of the names of one bucket move
-- to the new one. Both are written anew, because a hash that Redis once turned into a table
-- (many names, or one longer than 64 bytes) becomes compact again only that way.
-- Bounded: a bucket holds some 80 names when its turn comes.
local function grow(l, n)
  local m = 1
  while m < n + 1 do m = m * 2 end
  local prefix = P .. 'd' .. fmt('%d', l) .. ':'
  local from = n - m / 2
  local all = call('HGETALL', prefix .. from)
  local parts = { [from] = {}, [n] = {} }
  -- The bit m/2 of the hash decides. It is in one digit of its hexadecimal form.
  local digit, bit = 8, m / 2
  while bit >= 16 do digit, bit = digit - 1, bit / 16 end
  local part_of = {}
  for value = 0, 15 do
    part_of[string.byte(fmt('%x', value))] = parts[value % (bit * 2) >= bit and n or from]
  end
  local sha1hex, byte = redis.sha1hex, string.byte
  for i = 1, #all, 2 do
    local part = part_of[byte(sha1hex(all[i]), digit)]
    local at = #part
    part[at + 1], part[at + 2] = all[i], all[i + 1]
  end
  call('DEL', prefix .. from)
  for b, part in pairs(parts) do
    for i = 1, #part, 1000 do
      call('HSET', prefix .. b, spread(part, i, math.min(i + 999, #part)))
    end
  end
  return n + 1
end
