-- Fragment: how every mutation begins and ends.
--
-- KEYS[1] = the shard's control record, `rfs:{volume/shard}:c`; every other key is made from its
--           prefix, so all are in the same slot.
-- ARGV[1] = session (8) | lane (2) | sequence number (8) | number of the lane's last
--           acknowledged mutation (8, zero at first)
-- Reply   = one string; its first byte is an errno (0 = done). Special: 250 = fenced, 251 = the
--           server forgot acknowledged operations; the number it remembers follows.
--
-- Invariant: a mutation runs at most once for each (session, lane, number): its reply is kept
-- with the number in the control record and given again when the number comes again. Errors are
-- not kept, for they changed nothing; neither are replies with 246 in their first byte, which say
-- that nothing had to be done. The rest of a script therefore checks everything first and
-- writes after, and its last write is `finish`.
local spread = unpack  -- of Lua, before `unpack` becomes that of struct
local call, sub, pack, unpack = redis.call, string.sub, struct.pack, struct.unpack
local char, fmt = string.char, string.format
local C, H = KEYS[1], ARGV[1]
local P, sid, lane = sub(C, 1, -2), sub(H, 1, 8), 'l' .. sub(H, 1, 10)
local S = call('HMGET', C, 's' .. sid, lane, 'n', 'inodes', 'bytes', 'max_inodes', 'max_bytes',
  'extras')
if not S[1] then return '\250' end
local last = S[2] or '\0\0\0\0\0\0\0\0'
local number = sub(last, 1, 8)
if number == sub(H, 11, 18) then return sub(last, 9) end
if number ~= sub(H, 19, 26) then return '\251' .. number end

-- The ctime of a change made at `now` to what had ctime `old`: it grows strictly whatever the
-- clocks of the mounts say, so that it names a version of the inode. `old` is a ctime, or attributes
-- and where the ctime is in them.
local function after(now, old, at)
  -- As numbers, in halves: Lua orders strings by the server's locale, and 64 bits are too many.
  local high, low = unpack('>i4I4', now)
  local old_high, old_low = unpack('>i4I4', old, at)
  if high > old_high or (high == old_high and low > old_low) then return now end
  if at then old = sub(old, at, at + 7) end
  for i = 8, 1, -1 do
    local byte = string.byte(old, i)
    if byte < 255 then
      return sub(old, 1, i - 1) .. char(byte + 1) .. string.rep('\0', 8 - i)
    end
  end
  return old
end

-- Whether anybody else has to be told of changes.
local heard = S[3] ~= '1'

-- Keeps the reply, adds to the counters, tells the other sessions (`changes`: 'A' inode(8) and
-- 'E' directory(8) length(2) name; 'L' session(8) inode(8) ticket(8) length(1) attributes: a lock
-- that this session waited for is its own; not looked at unless `heard`).
local function finish(reply, changes, inodes, bytes)
  local kept = sub(H, 11, 18) .. reply
  if bytes ~= 0 then
    call('HSET', C, lane, kept, 'inodes', fmt('%d', S[4] + inodes),
      'bytes', fmt('%d', S[5] + bytes))
  elseif inodes ~= 0 then
    call('HSET', C, lane, kept, 'inodes', fmt('%d', S[4] + inodes))
  else
    call('HSET', C, lane, kept)
  end
  if heard and changes ~= '' then call('PUBLISH', P .. 'inv', sid .. changes) end
  return reply
end
