-- Fragment: forgets a session: its record, what it remembers of its operations, its holds, its
-- slice ranges, what it saw of the nodes and its locks, which others may get by that. From then on it
-- can change nothing.
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
  call('HDEL', P .. 'obs', sid)
  local holds = call('ZRANGE', P .. 'h', 0, -1)
  for i = 1, #holds do
    if sub(holds[i], 9, 16) == sid then call('ZREM', P .. 'h', holds[i]) end
  end
  call('HSET', C, 'n', call('ZCARD', P .. 'b'))
  local locked = call('ZRANGEBYLEX', P .. 'ks', '[' .. sid,
    '[' .. sid .. '\255\255\255\255\255\255\255\255\255')
  if #locked == 0 then return end
  told = ''
  for i = 1, #locked do
    for _, kind in ipairs({ 'p', 'f' }) do
      local b = book(sub(locked[i], 9, 16), kind)
      for _, list in ipairs({ b.held, b.queue }) do
        for at = #list, 1, -1 do
          local who = list[at].who
          if sub(who, 1, 8) == sid then
            table.remove(list, at)
            call('HDEL', P .. 'kw', who)
          end
        end
      end
      settle(b, '')
      save(b)
    end
    call('ZREM', P .. 'ks', locked[i])
  end
  if told ~= '' then call('PUBLISH', P .. 'inv', sid .. told) end
end
