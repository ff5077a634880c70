-- Fragment: how every script begins that is no mutation of a session's lane. KEYS[1] as in
-- begin.lua.
local spread = unpack  -- of Lua, before `unpack` becomes that of struct
local call, sub, pack, unpack = redis.call, string.sub, struct.pack, struct.unpack
local fmt, concat = string.format, table.concat
local C = KEYS[1]
local P = sub(C, 1, -2)
