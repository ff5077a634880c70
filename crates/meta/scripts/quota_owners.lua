-- Turns counting by owner and group on or off.
-- ARGV[1] = '1' on, '0' off, '2' all inodes have been counted.   Reply: 0 | extras (8).
-- Invariant: new inodes are counted or not from this moment on; the others follow by
-- quota_count.lua, each once, for its flag tells.
local extras = tonumber(call('HGET', C, 'extras') or '0')
if ARGV[1] == '0' then
  call('DEL', P .. '~')  -- works when memory is full
  extras = extras - extras % 4
elseif extras % 2 == 0 then
  if ARGV[1] == '1' then extras = extras + 1 end
elseif ARGV[1] == '2' and extras % 4 < 2 then
  extras = extras + 2
end
if extras == 0 then call('HDEL', C, 'extras') else call('HSET', C, 'extras', fmt('%d', extras)) end
return '\0' .. pack('>I8', extras)
