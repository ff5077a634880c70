-- The ring and all that belongs to it, as of one moment.
-- Reply: 0 | epoch (8) | version of the ring's state (8) | version of the overlay (8) | oldest epoch
-- under which commits are taken (8) | each with its length (4) before it: table, tables before it
-- (each with its length), overlay, node list, copies, what is being moved.
local state = call('HMGET', C, 'epoch', 'ringv', 'overlay', 'floor')
local record = call('HMGET', P .. 'v', 'nodes', 'replicas')
local out = { '\0' }
for i = 1, 4 do out[#out + 1] = pack('>I8', tonumber(state[i] or '0')) end
local function put(value)
  value = value or ''
  out[#out + 1] = pack('>I4', #value) .. value
end
put(call('GET', P .. 'ring'))
put(call('GET', P .. 'former'))
put(call('HGET', P .. 'm', 'over'))
put(record[1])
put(record[2])
put(call('GET', P .. 'mv'))
return concat(out)
