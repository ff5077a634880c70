-- Fragment: puts an inode that lost its last name into the trash instead of dropping it.
-- `trash` in the control record: the trash directory (8) | seconds to keep (4). In it is one
-- directory for each time of expiry, named by that second; in those the inodes are named
-- `<old directory>-<inode>-<old name>` (numbers hexadecimal, cut to 255 bytes). 1024 in the flags marks
-- all these directories: what is deleted in them is gone.
-- Returns the attributes and the inodes made (0 or 1) and the directory, or nil: there is no trash.
-- Invariant: as create.lua's and rename.lua's: counts and parent pointers follow.
local function toss(ino, attr, pl, name, now)
  local trash = call('HGET', C, 'trash')
  if not trash then return nil end
  local top, keep = sub(trash, 1, 8), unpack('>I4', trash, 9)
  local tkey, tfield, tl = where(top)
  local tattr = call('HGET', tkey, tfield)
  if not tattr or unpack('>I4', tattr, 5) == 0 or ino == top then return nil end
  local function hash(text) return tonumber(sub(redis.sha1hex(text), 1, 8), 16) end

  -- Few directories: what expires within an hour of a day's keeping expires together.
  local span = math.max(1, math.min(3600, math.floor(keep / 24)))
  local slot = fmt('%010d', math.ceil((tonumber(call('TIME')[1]) + keep) / span) * span)
  local _, _, tlinks, _, _, tents, tbuckets = unpack('>I2I2I4I4I4I4I4', tattr)
  local there, made, dir, dattr = call('HGET', bucket(tl, hash(slot), tbuckets), slot), 0, nil, nil
  if there then
    dir = sub(there, 1, 8)
    local key, field = where(dir)
    dattr = call('HGET', key, field)
    if not dattr then return nil end
  else
    dir, made = sub(top, 1, 2) .. pack('>I6', call('HINCRBY', C, 'next_ino', 1) - 1), 1
    local add = 0
    if S[8] % 2 == 1 then add = quotas().enrol(0, 0, 0, 0, 0) end
    dattr = pack('>I2I2I4I4I4I4I4', 16832, 1024 + add, 2, 0, 0, 0, 1) .. now .. now .. now .. now .. top
    call('HSET', bucket(tl, hash(slot), tbuckets), slot, dir .. '\4')
    tents = tents + 1
    if tents > 40 * tbuckets then tbuckets = grow(tl, tbuckets) end
    call('HSET', tkey, tfield, sub(tattr, 1, 4) .. pack('>I4', tlinks + 1) .. sub(tattr, 9, 16)
      .. pack('>I4I4', tents, tbuckets) .. now .. after(now, tattr, 33) .. sub(tattr, 41))
    if add > 0 then quotas().settle() end
  end

  local key, field, l = where(ino)
  local dkey, dfield, dl = where(dir)
  local mode = unpack('>I2', attr)
  local is_dir = mode >= 16384 and mode < 20480
  local _, _, dlinks, _, _, dents, dbuckets = unpack('>I2I2I4I4I4I4I4', dattr)
  local item = sub(fmt('%x-%x-', pl, l) .. name, 1, 255)
  call('HSET', bucket(dl, hash(item), dbuckets), item, ino .. char((mode - mode % 4096) / 4096))
  dents = dents + 1
  if dents > 40 * dbuckets then dbuckets = grow(dl, dbuckets) end
  call('HSET', dkey, dfield, sub(dattr, 1, 4) .. pack('>I4', dlinks + (is_dir and 1 or 0))
    .. sub(dattr, 9, 16) .. pack('>I4I4', dents, dbuckets) .. now .. after(now, dattr, 33)
    .. sub(dattr, 41))
  attr = sub(attr, 1, 4) .. pack('>I4', is_dir and 2 or 1) .. sub(attr, 9, 56)
    .. (is_dir and dir or sub(attr, 57))
  call('HSET', key, field, attr)
  return attr, made, dir
end

-- Whether what is deleted in a directory goes into the trash: not in the trash itself, nor where a
-- clone is being built.
local function keeps(pflags)
  return S[8] and S[8] % 8 >= 4 and pflags % 2048 < 1024 and pflags % 16 < 8
end
