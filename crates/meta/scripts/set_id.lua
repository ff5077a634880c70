-- Fragment: what a write by somebody without privileges leaves of a file's mode. Set-user-id goes
-- always; set-group-id only where it is not the mark of mandatory locking.
local function without_set_id(mode)
  if mode % 4096 >= 2048 then mode = mode - 2048 end
  if mode % 2048 >= 1024 and mode % 16 >= 8 then mode = mode - 1024 end
  return mode
end
