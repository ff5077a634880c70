-- Copies inodes, each as it is at this moment, into a directory; the data stay where they are.
-- ARGV[2] = directory (8) | now (8) | 1 if the caller is privileged (1); then for each: source (8)
-- | new inode (8) | hash of the name (4), name.
-- Reply: 0 | for each that was dealt with (at least one): 1 copied, 2 the source is gone, 3 too
-- large: copied with no data and size 0 | attributes of the directory (64).
-- Errors: ESTALE, ENOTDIR, ENOENT (directory removed), EEXIST, ENOSPC, EDQUOT.
-- Invariants: as create.lua's and share.lua's. A copy has one name and no subdirectories yet; its
-- mode, owner, times, attributes and data are the source's. Bounded: some 256 chunks a call.
local A = ARGV[2]
local parent, now = sub(A, 1, 8), sub(A, 9, 16)
local pkey, pfield, pl = where(parent)
local pattr = call('HGET', pkey, pfield)
if not pattr then return '\116' end
local pmode, pflags, plinks, _, _, entries, buckets = unpack('>I2I2I4I4I4I4I4', pattr)
if pmode < 16384 or pmode >= 20480 then return '\20' end
if plinks == 0 then return '\2' end
-- What is to be done and what it adds, before anything is written.
local work, out, inodes, bytes, chunks = {}, { '\0' }, 0, 0, 0
for i = 3, #ARGV, 2 do
  local item, name = ARGV[i], ARGV[i + 1]
  local skey, sfield, sl = where(item)
  local attr = call('HGET', skey, sfield)
  local mode, flags, nlink = 0, 0, 0
  if attr then mode, flags, nlink = unpack('>I2I2I4', attr) end
  if nlink == 0 then
    out[#out + 1] = '\2'
  else
    if call('HEXISTS', bucket(pl, unpack('>I4', item, 17), buckets), name) == 1 then
      return '\17'
    end
    local extents, big, size = flags % 4 >= 2, false, 0
    if extents then
      local count = call('HLEN', P .. 'x' .. fmt('%d', sl))
      big = count > 256
      if not big and chunks > 0 and chunks + count > 256 then break end
      if not big then chunks = chunks + count end
    end
    if mode >= 32768 and mode < 36864 and not big then size = weigh(split(attr, 17)) end
    inodes, bytes = inodes + 1, bytes + size
    local add, tree = 0, nil
    if S[8] or pflags % 1024 >= 512 then
      local uid, gid = unpack('>I4I4', attr, 9)
      add, tree = quotas().enrol(pflags, pl, uid, gid, size)
    end
    work[#work + 1] = { i, attr, big, skey, sfield, sl, add, tree }
    out[#out + 1] = big and '\3' or '\1'
  end
end
if S[6] and S[6] ~= '0' and S[4] + inodes > tonumber(S[6]) then return '\28' end
if S[7] and S[7] ~= '0' and S[5] + bytes > tonumber(S[7]) then return '\28' end
local q = (S[8] or pflags % 1024 >= 512) and quotas()
if q and q.over(string.byte(A, 17) == 1) then return '\122' end

local shared = 0
for w = 1, #work do
  local i, attr, big, skey, sfield, sl, add, tree = spread(work[w], 1, 8)
  local item, name = ARGV[i], ARGV[i + 1]
  local ino = sub(item, 9, 16)
  local key, field, l = where(ino)
  local from, to = fmt('%d', sl), fmt('%d', l)
  local mode, flags = unpack('>I2I2', attr)
  local is_dir = mode >= 16384 and mode < 20480
  local inline, extents, xattrs = flags % 2 == 1 or mode >= 40960 and mode < 45056,
    flags % 4 >= 2, flags % 8 >= 4
  if big then inline, extents = false, false end
  local new = (flags % 2 == 1 and inline and 1 or 0) + (extents and 2 or 0) + (xattrs and 4 or 0)
    + add + flags % 256 - flags % 64  -- ACLs are among the extended attributes
  if tree then q.join(l, tree) end
  if inline then
    local data = call('GET', P .. 'i' .. from)
    if data then call('SET', P .. 'i' .. to, data) end
  end
  if xattrs then
    local all = call('HGETALL', P .. 'e' .. from)
    if #all > 0 then call('HSET', P .. 'e' .. to, spread(all)) end
  end
  if extents then
    local all, here = call('HGETALL', P .. 'x' .. from), 0
    for c = 1, #all, 2 do
      call('HSET', P .. 'x' .. to, all[c], all[c + 1])
      here = here + share(all[c + 1], '')
    end
    if here > 0 then
      new, shared = new + 16, shared + here
      if flags % 32 < 16 then
        call('HSET', skey, sfield, sub(attr, 1, 2) .. pack('>I2', flags + 16) .. sub(attr, 5))
      end
    end
  end
  local size = sub(attr, 17, 24)
  if is_dir then size = pack('>I4I4', 0, 1) elseif big then size = '\0\0\0\0\0\0\0\0' end
  call('HSET', key, field, pack('>I2I2I4', mode, new, is_dir and 2 or 1) .. sub(attr, 9, 16) .. size
    .. sub(attr, 25, 32) .. now .. sub(attr, 41, 48) .. now
    .. (is_dir and parent or sub(attr, 57)))
  -- The buckets may have grown since the first of the batch.
  call('HSET', bucket(pl, unpack('>I4', item, 17), buckets), name,
    ino .. char((mode - mode % 4096) / 4096))
  entries = entries + 1
  if entries > 40 * buckets then buckets = grow(pl, buckets) end
  if is_dir then plinks = plinks + 1 end
end
if shared > 0 then call('HINCRBY', C, 'shares', 1) end
pattr = sub(pattr, 1, 4) .. pack('>I4', plinks) .. sub(pattr, 9, 16)
  .. pack('>I4I4', entries, buckets) .. sub(pattr, 25)
call('HSET', pkey, pfield, pattr)
if q then q.settle() end
return finish(table.concat(out) .. pattr, 'A' .. parent, inodes, bytes)
