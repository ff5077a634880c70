-- Fragment: a chunk that shows `kept` shows `added` as well, of slices that others show already.
-- `shares` in the control record tells the garbage collector that references have moved.
local function share(added, kept)
  local slices = slices_of(added, seen_in(kept))
  for i = 1, #slices do call('HINCRBY', P .. 'r', slices[i], 1) end
  return #slices
end
