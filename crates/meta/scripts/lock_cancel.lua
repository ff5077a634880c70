-- Gives up waiting for a lock.
-- ARGV[2] = inode (8) | kind (1) | owner (8) | ticket (8).
-- Reply: as of lock.lua; 'W' it waited and does not any more, 'G' it did not wait: it was granted.
-- Invariant: the first write is a deletion, so that it works when memory is full.
local A = ARGV[2]
local b, who, ticket = book(sub(A, 1, 8), sub(A, 9, 9)), sid .. sub(A, 10, 17), sub(A, 18, 25)
for i = 1, #b.queue do
  if b.queue[i].who == who and b.queue[i].ticket == ticket then
    table.remove(b.queue, i)
    call('DEL', P .. '~')
    waits(b, who, false)
    settle(b, sid)
    save(b)
    strike(b, sid)
    return finish('\0W' .. remains(b, who) .. '\0' .. own, told, 0, 0)
  end
end
local attr = attributes(b.ino)
return '\246G' .. remains(b, who) .. string.char(#attr) .. attr
