-- Registers a session.
-- ARGV[1] = its id (8), zero to be given one; ARGV[2] = who it is (opaque).
-- Reply: 0 | session (8) | sessions (4) | ring epoch (8) | number of the last orphan (8).
-- Invariant: a session that begins has nothing open, so it has acknowledged all orphans.
call('DEL', P .. '~')  -- a volume that is full can be mounted, to delete from it
local sid = ARGV[1]
if sid == '\0\0\0\0\0\0\0\0' then sid = pack('>I8', call('HINCRBY', C, 'next_session', 1)) end
local oseq = tonumber(call('HGET', C, 'oseq') or '0')
local epoch = tonumber(call('HGET', C, 'epoch') or '0')
local now = tonumber(call('TIME')[1])
call('HSET', C, 's' .. sid, pack('>I8I8I8I8', 0, now, 0, epoch), 'i' .. sid, ARGV[2])
call('ZADD', P .. 'b', now, sid)
call('ZADD', P .. 'q', oseq, sid)
local n = call('ZCARD', P .. 'b')
call('HSET', C, 'n', n)
return '\0' .. sid .. pack('>I4I8I8', n, epoch, oseq)
