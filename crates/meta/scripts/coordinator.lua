-- Fragment: what only the coordinator may do.

-- Whether `token` (8) is of the newest holding of the lease.
local function coordinates(token)
  return sub(call('HGET', P .. 'm', 'lease') or '', 9, 16) == token
end

-- The ring's table, its overlay or what is being moved has changed: everybody shall look.
local function tell_ring()
  call('HINCRBY', C, 'ringv', 1)
  call('PUBLISH', P .. 'inv', '\0\0\0\0\0\0\0\0R'
    .. pack('>I8', tonumber(call('HGET', C, 'epoch') or '0')))
end
