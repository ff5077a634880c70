-- Whose turn it is to remove what has expired in the trash.
-- ARGV[1] = session (8); ARGV[2] = seconds that a turn lasts (decimal).
-- Reply: 0 | 1 if it is this session's (1) | the server's time in seconds (8).
call('DEL', P .. '~')  -- so that the writes that follow are let through when memory is full
local t, turn = P .. 't', 1
if not call('SET', t, ARGV[1], 'NX', 'EX', ARGV[2]) then
  if call('GET', t) == ARGV[1] then call('EXPIRE', t, ARGV[2]) else turn = 0 end
end
return '\0' .. pack('>I1I8', turn, tonumber(call('TIME')[1]))
