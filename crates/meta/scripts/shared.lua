-- Fragment: slices that several chunks show. `r` tells for each how many chunks beyond the first
-- do, and an inode that has or had such slices has 16 in its flags; the slices of all others
-- belong to one chunk, so nobody asks about them.

-- The slices that `records` show and that are not among `except` (fields of a table).
local function slices_of(records, except)
  local list, first = {}, {}
  for i = 1, #records, 24 do
    local slice = sub(records, i + 8, i + 15)
    if not except[slice] then
      except[slice] = true
      list[#list + 1] = slice
      first[#first + 1] = i
    end
  end
  return list, first
end

local function seen_in(records)
  local seen = { ['\0\0\0\0\0\0\0\0'] = true }
  for i = 9, #records, 24 do seen[sub(records, i, i + 7)] = true end
  return seen
end

-- A chunk shows `dropped` no longer, but still `kept`. Returns one record for each slice that no
-- chunk at all shows any more: its blocks may be removed.
local function let_go(dropped, kept)
  local slices, first = slices_of(dropped, seen_in(kept))
  local freed, r = {}, P .. 'r'
  for from = 1, #slices, 1000 do
    local to = math.min(from + 999, #slices)
    local counts = call('HMGET', r, spread(slices, from, to))
    for i = from, to do
      local count = counts[i - from + 1]
      if not count then
        freed[#freed + 1] = sub(dropped, first[i], first[i] + 23)
      elseif count == '1' then
        call('HDEL', r, slices[i])
      else
        call('HINCRBY', r, slices[i], -1)
      end
    end
  end
  return table.concat(freed)
end
