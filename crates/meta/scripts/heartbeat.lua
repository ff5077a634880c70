-- A session's sign of life.
-- ARGV[1] = session (8) | beat number (8) | oldest slice that may still be committed, local (8)
--           | ring epoch it uses (8) | orphans acknowledged up to this number (8)
--           | inodes that it has open among them (8 each).
-- Reply: 0 | sessions (4) | ring epoch (8) | number of the last orphan in this reply (8)
-- | orphans after the acknowledged ones (8 each), at most 256.
-- 250 = fenced; 251 = the server forgot beats or orphans that it had acknowledged.
-- Invariant: an orphan is held before it counts as acknowledged, so it is never without both.
local A = ARGV[1]
local sid = sub(A, 1, 8)
local record = call('HGET', C, 's' .. sid)
if not record then return '\250' end
local beat, oldest, epoch, ack = unpack('>I8I8I8I8', A, 9)
local had = unpack('>I8', record)
local oseq = tonumber(call('HGET', C, 'oseq') or '0')
if (had ~= beat and had + 1 ~= beat) or oseq < ack then return '\251' .. sub(record, 1, 8) end
call('DEL', P .. '~')  -- so that this works when memory is full
local now = tonumber(call('TIME')[1])
call('HSET', C, 's' .. sid, pack('>I8I8I8I8', beat, now, oldest, epoch))
for i = 41, #A, 8 do
  local ino = sub(A, i, i + 7)
  if call('ZSCORE', P .. 'o', ino) then call('ZADD', P .. 'h', 0, ino .. sid) end
end
call('ZADD', P .. 'b', now, sid)
call('ZADD', P .. 'q', ack, sid)
local ranges = call('HGET', P .. 'g', sid)
if ranges then
  local keep = {}
  for i = 1, #ranges, 16 do
    local from, count = unpack('>I8I8', ranges, i)
    local past = from + count
    if from < oldest then from = oldest end
    if from < past then keep[#keep + 1] = pack('>I8I8', from, past - from) end
  end
  keep = table.concat(keep)
  if keep ~= ranges then call('HSET', P .. 'g', sid, keep) end
end
local state = call('HMGET', C, 'n', 'epoch')
local orphans = call('ZRANGEBYSCORE', P .. 'o', '(' .. fmt('%d', ack), '+inf', 'WITHSCORES',
  'LIMIT', 0, 256)
local out, top = {}, oseq
for i = 1, #orphans, 2 do out[#out + 1] = orphans[i] end
if #out == 256 then top = tonumber(orphans[512]) end
return '\0' .. pack('>I4I8I8', tonumber(state[1]), tonumber(state[2] or '0'), top)
  .. table.concat(out)
