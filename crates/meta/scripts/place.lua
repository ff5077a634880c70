-- Fragment: the bucket, of `n`, that holds the names at a place in the order of the bit-reversed hash,
-- and how many places it spans.
local function bucket_at(place, n)
  local m, bits = 1, 0
  while m < n do m, bits = m * 2, bits + 1 end
  -- The hash's lower bits are the place's upper bits in reverse.
  local b, rest, weight = 0, place, 1
  for i = 1, bits do
    rest = rest * 2
    if rest >= 4294967296 then rest, b = rest - 4294967296, b + weight end
    weight = weight * 2
  end
  local span = 4294967296 / m
  if b >= n then b = b - m / 2 end
  -- A bucket that has not been split yet is twice as long.
  if b + m / 2 >= n and m > 1 and b < m / 2 then span = span * 2 end
  return b, span
end
