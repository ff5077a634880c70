-- Fragment: forgets a session: its record, what it remembers of its operations, its holds and
-- its slice ranges. From then on it can change nothing.
local function leave(sid)
  call('DEL', P .. '~')  -- so that this works when memory is full
  local fields, mine = call('HKEYS', C), 'l' .. sid
  for i = 1, #fields do
    if sub(fields[i], 1, 9) == mine then call('HDEL', C, fields[i]) end
  end
  call('HDEL', C, 's' .. sid, 'i' .. sid)
  call('ZREM', P .. 'b', sid)
  call('ZREM', P .. 'q', sid)
  call('HDEL', P .. 'g', sid)
  local holds = call('ZRANGE', P .. 'h', 0, -1)
  for i = 1, #holds do
    if sub(holds[i], 9, 16) == sid then call('ZREM', P .. 'h', holds[i]) end
  end
  call('HSET', C, 'n', call('ZCARD', P .. 'b'))
end
