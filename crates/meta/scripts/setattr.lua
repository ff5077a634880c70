-- Changes attributes; truncates.
-- ARGV[2] = inode (8) | mask (1: 1 perm, 2 uid, 4 gid, 8 size, 16 atime, 32 mtime, 64 the
--           caller is privileged) | perm (2)
--           | uid (4) | gid (4) | size (8) | atime (8) | mtime (8) | now (8).
-- Reply: 0 | 1 if there is more to cut off: send it again under the next number (1) | length (1)
-- | attributes | ctime before (8) | freed extent records.
-- Errors: ESTALE, EISDIR, EINVAL (size of what is no file), ENOSPC, EDQUOT.
-- Invariant: after a truncation nothing beyond the new size can ever show again: inline data are
-- cut, whole chunks dropped (256 a call, from the end; the size follows, so that every state
-- between is a truncated file), and in the chunk that is cut a hole covers the rest. An access ACL
-- follows the permission bits.
local A = ARGV[2]
local ino, mask = sub(A, 1, 8), string.byte(A, 9)
local key, field, l = where(ino)
local attr = call('HGET', key, field)
if not attr then return '\116' end
local mode, flags = unpack('>I2I2', attr)
local perm, owners = unpack('>I2c8', A, 10)
local chunk, cut = split(A, 20)
local kind = mode - mode % 4096
local mtime, atime, sizes = sub(attr, 25, 32), sub(attr, 41, 48), sub(attr, 17, 24)
local uid, gid = sub(attr, 9, 12), sub(attr, 13, 16)
if mask % 2 >= 1 then mode = kind + perm end
if mask % 4 >= 2 then uid = sub(owners, 1, 4) end
if mask % 8 >= 4 then gid = sub(owners, 5, 8) end
if mask % 32 >= 16 then atime = sub(A, 28, 35) end
if mask % 64 >= 32 then mtime = sub(A, 36, 43) end
local freed, more, delta = {}, '\0', 0
local q = flags % 1024 >= 256 and (mask % 16 >= 8 or mask % 8 >= 2) and quotas()
if q then
  local held = kind == 32768 and weigh(split(sizes, 1)) or 0
  local grows = mask % 16 >= 8 and kind == 32768 and math.max(0, weigh(chunk, cut) - held) or 0
  local now = sub(attr, 1, 8) .. uid .. gid
  if flags % 512 >= 256 and now ~= sub(attr, 1, 16) then
    -- What it holds goes from the one to the other; growth is the new owner's.
    local old_uid, old_gid, new_uid, new_gid = unpack('>I4I4I4I4', sub(attr, 9, 16) .. uid .. gid)
    if old_uid ~= new_uid then
      q.owe(fmt('u%d', old_uid), -1, -held)
      q.owe(fmt('u%d', new_uid), 1, held)
    end
    if old_gid ~= new_gid then
      q.owe(fmt('g%d', old_gid), -1, -held)
      q.owe(fmt('g%d', new_gid), 1, held)
    end
  end
  if grows > 0 then q.charge(now, l, 0, grows) end
  if not (mask % 16 >= 8 and kind ~= 32768) and q.over(mask >= 64) then return '\122' end
end
if mask % 16 >= 8 then
  if kind == 16384 then return '\21' end
  if kind ~= 32768 then return '\22' end
  if mask % 64 < 32 then mtime = sub(A, 44, 51) end
  local old_chunk, old_pos = split(sizes, 1)
  local old, name = weigh(old_chunk, old_pos), fmt('%d', l)
  delta = weigh(chunk, cut) - old
  if delta > 0 and S[7] and S[7] ~= '0' and S[5] + delta > tonumber(S[7]) then
    return '\28'
  end
  if (chunk < old_chunk or chunk == old_chunk and cut < old_pos) and flags % 4 >= 1 then
    call('DEL', P .. '~')  -- so that the writes that follow are let through when memory is full
    local keep = chunk
    if flags % 4 >= 2 then
      local xkey = P .. 'x' .. name
      local beyond = {}
      local top = old_pos == 0 and old_chunk - 1 or old_chunk
      local count = call('HLEN', xkey)
      -- A sparse file may have few chunks and many numbers between them.
      if count <= 4096 or (top - keep) / 4 > count then
        local all = call('HKEYS', xkey)
        for i = 1, #all do
          local c = tonumber(all[i])
          if c > keep or (c == keep and cut == 0) then beyond[#beyond + 1] = c end
        end
        table.sort(beyond, function(a, b) return a > b end)
      else
        for c = top, math.max(cut == 0 and keep or keep + 1, top - 256), -1 do
          beyond[#beyond + 1] = c
        end
      end
      local bytes, dropped = 0, nil
      for i = 1, #beyond do
        if i > 256 or bytes > 262144 then
          more, chunk, cut = '\1', dropped, 0
          break
        end
        local records = call('HGET', xkey, beyond[i])
        if records then
          bytes = bytes + #records
          call('HDEL', xkey, beyond[i])
          freed[#freed + 1] = flags % 32 >= 16 and let_go(records, '') or records
        end
        dropped = beyond[i]
      end
      if more == '\0' and cut > 0 then
        local records = call('HGET', xkey, keep)
        if records then
          for i = 1, #records, 24 do
            local pos, len = unpack('>I4I4', records, i)
            if pos + len > cut then
              call('HSET', xkey, keep, records .. pack('>I4I4I8I4I4', cut, CHUNK - cut, 0, 0, 0))
              break
            end
          end
        end
      end
      if chunk == 0 and cut == 0 then flags = flags - (flags % 32 >= 16 and 18 or 2) end
    end
    if flags % 2 == 1 then
      if chunk == 0 and cut == 0 then
        call('DEL', P .. 'i' .. name)
        flags = flags - 1
      elseif chunk == 0 and call('STRLEN', P .. 'i' .. name) > cut then
        call('SET', P .. 'i' .. name, call('GETRANGE', P .. 'i' .. name, 0, cut - 1))
      end
    end
  end
  delta, sizes = weigh(chunk, cut) - old, join(chunk, cut)
  if delta < 0 and q then q.charge(sub(attr, 1, 8) .. uid .. gid, l, 0, delta) end
end
if mask % 2 >= 1 and flags % 128 >= 64 then
  local ekey = P .. 'e' .. fmt('%d', l)
  local acl = call('HGET', ekey, ACCESS)
  if acl then call('HSET', ekey, ACCESS, (under(acl, perm, true))) end
end
local previous = sub(attr, 33, 40)
attr = pack('>I2I2', mode, flags) .. sub(attr, 5, 8) .. uid .. gid .. sizes .. mtime
  .. after(sub(A, 44, 51), previous) .. atime .. sub(attr, 49)
call('HSET', key, field, attr)
if q then q.settle() end
return finish('\0' .. more .. char(#attr) .. attr .. previous .. table.concat(freed),
  'A' .. ino, 0, delta)
