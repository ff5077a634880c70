-- Gives up locks of an owner in a range.
-- ARGV[2] = inode (8) | kind (1) | owner (8) | first byte (8) | last byte (8).
-- Reply: as of lock.lua, with status 'G' and no attributes. Also when there was none, or no such
-- inode any more.
-- Invariant: the first write is a deletion, so that it works when memory is full.
local A = ARGV[2]
local b = book(sub(A, 1, 8), sub(A, 9, 9))
local r = parse(sid .. sub(A, 10, 33) .. string.rep('\0', 14), WAITING_BYTES)[1]
if not has(b.held, r.who) then return '\246G' .. remains(b, r.who) .. '\0' end
r.x = nil
b.held = assign(b.held, r)
call('DEL', P .. '~')
settle(b, sid)
save(b)
strike(b, sid)
return finish('\0G' .. remains(b, r.who) .. '\0' .. own, told, 0, 0)
