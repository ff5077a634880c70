-- Fragment: in which bucket of a directory a name is (linear hashing; `h` = first 32 bits of the
-- name's SHA-1, which the client computes; `n` = number of buckets).
local function bucket(l, h, n)
  local m = 1
  while m < n do m = m * 2 end
  local b = h % m
  if b >= n then b = b % (m / 2) end
  return P .. fmt('d%d:%d', l, b)
end
