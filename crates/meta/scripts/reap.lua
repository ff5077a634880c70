-- Gives up sessions that have been silent for too long, by this server's clock; at most 64.
-- ARGV[1] = lease in seconds (decimal).   Reply: 0 | their ids (8 each).
local now = tonumber(call('TIME')[1])
local old = call('ZRANGEBYSCORE', P .. 'b', '-inf', '(' .. fmt('%d', now - ARGV[1]),
  'LIMIT', 0, 64)
for i = 1, #old do leave(old[i]) end
return '\0' .. concat(old)
