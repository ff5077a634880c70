-- Lets chunks of a file show slices of another (or of itself): a copy that moves no data.
-- ARGV[2] = source (8) | its ctime (8) | destination (8) | one past the last byte copied, in the
--           destination (8) | now (8) | 1 if the caller is privileged, 2 to take the set-id bits away (1);
-- ARGV[3] = number n of source chunks (decimal);
-- n times: chunk (decimal), SHA-1 of its records (hex), as the caller read them;
-- then: destination chunk (decimal), records to put on top.
-- Reply: 0 | attributes of the destination (56) | ctime before (8) | most records of a chunk
-- touched (4).   Not done: 245, the source is not what the caller read.
-- Errors: ESTALE, EINVAL (no file), ENOSPC, EDQUOT.
-- Invariants: `r` counts for each slice the chunks beyond the first that show it, and both inodes
-- are marked before anything could drop one of them. The source's records are compared, because a
-- compaction replaces slices without a new ctime.
local A = ARGV[2]
local source, ino, now = sub(A, 1, 8), sub(A, 17, 24), sub(A, 33, 40)
local skey, sfield, sl = where(source)
local key, field, l = where(ino)
local sattr, attr = call('HGET', skey, sfield), call('HGET', key, field)
if not sattr or not attr then return '\116' end
local smode, sflags = unpack('>I2I2', sattr)
local mode, flags = unpack('>I2I2', attr)
if mode < 32768 or mode >= 36864 or smode < 32768 or smode >= 36864 then return '\22' end
if sub(sattr, 33, 40) ~= sub(A, 9, 16) then return '\245' end
local n = tonumber(ARGV[3])
local sxkey = P .. 'x' .. fmt('%d', sl)
for i = 4, 3 + 2 * n, 2 do
  local records = call('HGET', sxkey, ARGV[i]) or ''
  if redis.sha1hex(records) ~= ARGV[i + 1] then return '\245' end
end
local chunk, pos = split(attr, 17)
local top_chunk, top_pos = split(A, 25)
local top, more = sub(A, 25, 32), weigh(top_chunk, top_pos) - weigh(chunk, pos)
if top_chunk < chunk or top_chunk == chunk and top_pos < pos then top, more = sub(attr, 17, 24), 0 end
if more > 0 and S[7] and S[7] ~= '0' and S[5] + more > tonumber(S[7]) then return '\28' end
local q = more > 0 and flags % 1024 >= 256 and quotas()
if q then
  q.charge(attr, l, 0, more)
  if q.over(string.byte(A, 41) % 2 == 1) then return '\122' end
end

local name, longest, shared = fmt('%d', l), 0, false
local xkey = P .. 'x' .. name
for i = 4 + 2 * n, #ARGV, 2 do
  local chunk, added = ARGV[i], ARGV[i + 1]
  local had = flags % 4 >= 2 and call('HGET', xkey, chunk) or ''
  if had == '' and (chunk ~= '0' or flags % 2 == 0) then
    -- Nothing lies below: holes would cover nothing.
    local kept = {}
    for at = 1, #added, 24 do
      if sub(added, at + 8, at + 15) ~= '\0\0\0\0\0\0\0\0' then
        kept[#kept + 1] = sub(added, at, at + 23)
      end
    end
    added = table.concat(kept)
  end
  if #added > 0 then
    call('HSET', xkey, chunk, had .. added)
    share(added, had)
    -- Also where the chunk itself shows the slice already: a compaction that read the chunk before
    -- must not take it for dropped.
    if #slices_of(added, seen_in('')) > 0 then shared = true end
    if #had + #added > longest then longest = #had + #added end
  end
end
if longest > 0 and flags % 4 < 2 then flags = flags + 2 end
if shared then
  call('HINCRBY', C, 'shares', 1)
  if sflags % 32 < 16 then
    call('HSET', skey, sfield, sub(sattr, 1, 2) .. pack('>I2', sflags + 16) .. sub(sattr, 5))
  end
  if flags % 32 < 16 then flags = flags + 16 end
end
if string.byte(A, 41) >= 2 then mode = without_set_id(mode) end
local previous = sub(attr, 33, 40)
attr = pack('>I2I2', mode, flags) .. sub(attr, 5, 16) .. top .. now
  .. after(now, previous) .. sub(attr, 41)
call('HSET', key, field, attr)
if q then q.settle() end
return finish('\0' .. attr .. previous .. pack('>I4', longest / 24), 'A' .. ino, 0, more)
