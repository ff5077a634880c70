-- Takes an advisory lock, or waits for it.
-- ARGV[2] = inode (8) | kind (1, see locks.lua) | 1 to wait (1) | owner (8) | first byte (8)
--           | last byte (8) | 1 if exclusive (1) | pid (4) | ticket of the wait (8).
-- Reply: 0 or 246 | 'G' granted, 'W' waiting, 'B' busy, and the lock held before is gone (flock's
-- conversion) | 1 if the owner still has a lock here or waits for one (1) | length (1)
-- | attributes (if granted) | others of this session granted: inode (8) ticket (8) length (1)
-- attributes.
-- Errors: ESTALE, EAGAIN, EDEADLK (fcntl only), ENOLCK (more than HELD_MAX or WAITING_MAX).
-- Asking again with the ticket of a wait keeps its place.
local A = ARGV[2]
local ino, kind, wait = sub(A, 1, 8), sub(A, 9, 9), string.byte(A, 10) == 1
local attr = attributes(ino)
if attr == '' then return '\116' end
local b = book(ino, kind)
local r = parse(sid .. sub(A, 11) .. '\0', WAITING_BYTES)[1]
for i = 1, #b.queue do
  if b.queue[i].who == r.who and b.queue[i].ticket == r.ticket then return '\246W\1\0' end
end
local given_up = false
if kind == 'f' then
  for i = 1, #b.held do
    if b.held[i].who == r.who then
      if b.held[i].x == r.x then return '\246G\1' .. char(#attr) .. attr end
      -- As on Linux: a flock is converted by giving it up first.
      table.remove(b.held, i)
      given_up = true
      break
    end
  end
end

-- Who does not wait has no place in the queue either, before or behind others.
if not wait then r.barge = 1 end
local granted, passing = free(b, r, #b.queue), {}
if not granted and wait then
  if #b.queue >= WAITING_MAX then return '\37' end
  if kind == 'p' then
    if circle(b, r, false) then return '\35' end
    local found, met, books = circle(b, r, true)
    if found then
      -- Nobody waits for himself: only the order of the queues says so. It gives way.
      r.barge = 1
      granted = free(b, r, #b.queue)
      passing = books
      for _, one in pairs(books) do
        for i = 1, #one.queue do
          if met[one.queue[i].who] then one.queue[i].barge = 1 end
        end
      end
    end
  end
end
if not granted and not wait and not given_up then return '\11' end

if granted then
  b.held = assign(b.held, r)
  if #b.held > HELD_MAX then return '\37' end
elseif wait then
  b.queue[#b.queue + 1] = r
end
-- First what a server whose memory is full refuses, so that it refuses all.
call('ZADD', P .. 'ks', 0, sid .. ino)
if wait and not granted then waits(b, r.who, true) end
settle(b, sid)
save(b)
for _, one in pairs(passing) do
  if one ~= b then
    settle(one, sid)
    save(one)
  end
end
local status = granted and 'G' or wait and 'W' or 'B'
if status == 'B' then strike(b, sid) end
return finish('\0' .. status .. remains(b, r.who)
  .. (granted and char(#attr) .. attr or '\0') .. own, told, 0, 0)
