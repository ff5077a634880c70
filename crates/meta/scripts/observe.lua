-- An observer's sign of life: what it sees of the nodes, and back, how the ring is.
-- ARGV[1] = the observer's session (8) | for how many milliseconds it would like to coordinate, 0: not
--           at all (8); ARGV[2] = what it sees (opaque).
-- Reply: 0 | this server's clock in milliseconds (8) | epoch (8) | version of the ring's state (8)
-- | the coordinator's session, zero if there is none (8) | its token (8); and for the coordinator
-- alone what everybody sees: session (8) | age in milliseconds (8) | length (4) | report, ...
-- 250 = fenced.
-- Invariant: a token belongs to one holding of the lease, and later ones are larger; what the
-- coordinator changes, it changes only while its token is the newest. The clock decides how soon
-- another takes over, never who may change something.
local sid, want = sub(ARGV[1], 1, 8), unpack('>I8', ARGV[1], 9)
if call('HEXISTS', C, 's' .. sid) == 0 then return '\250' end
call('DEL', P .. '~')  -- so that this works when memory is full
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local mkey, okey = P .. 'm', P .. 'obs'
call('HSET', okey, sid, pack('>I8', now) .. ARGV[2])
local lease = call('HGET', mkey, 'lease') or string.rep('\0', 24)
local holder, token, until_ms = sub(lease, 1, 8), unpack('>I8I8', lease, 9)
local none = '\0\0\0\0\0\0\0\0'
if holder ~= none and (until_ms < now or call('HEXISTS', C, 's' .. holder) == 0) then holder = none end
if want > 0 and (holder == none or holder == sid) then
  if holder == none then token = token + 1 end
  holder = sid
  call('HSET', mkey, 'lease', sid .. pack('>I8I8', token, now + want))
end
local state = call('HMGET', C, 'epoch', 'ringv')
local out = { '\0', pack('>I8I8I8', now, tonumber(state[1] or '0'), tonumber(state[2] or '0')),
  holder, pack('>I8', token) }
if holder == sid then
  local all = call('HGETALL', okey)
  for i = 1, #all, 2 do
    local age = now - unpack('>I8', all[i + 1])
    if age < 0 then age = 0 end
    if age > 60000 then
      call('HDEL', okey, all[i])
    else
      local report = sub(all[i + 1], 9)
      out[#out + 1] = all[i] .. pack('>I8I4', age, #report) .. report
    end
  end
end
return concat(out)
