-- Fragment: the advisory locks of an inode, one kind of them at a time ('p' fcntl, 'f' flock; the
-- two never meet). Key `k<ino>` is a hash:
--   'p', 'f'  what is held: session (8) | owner (8) | first byte (8) | last byte (8)
--             | 1 if exclusive (1) | pid (4)
--   'P', 'F'  who waits, in the order of arrival: the same | ticket (8) | 1 if it may overtake (1)
-- `ks` is a sorted set of session and inode, for the end of a session; `kw` a hash of session and
-- owner: the inodes at whose 'P' it waits, for the search for deadlocks.
-- Invariants: what one owner holds never overlaps itself; what two hold overlaps only if both
-- share; no request waits that could be granted; key and field are there only while needed.
-- Offsets are compared in halves: Lua's numbers end at 2^53, and it orders strings by locale.
local HELD_BYTES, WAITING_BYTES, HELD_MAX, WAITING_MAX, SEARCH_MAX = 37, 46, 4096, 1024, 256

local function less(ah, al, bh, bl) return ah < bh or (ah == bh and al < bl) end
local function up(h, l)
  if l == 4294967295 then return h + 1, 0 end
  return h, l + 1
end
local function down(h, l)
  if l == 0 then return h - 1, 4294967295 end
  return h, l - 1
end

local function parse(packed, size)
  local list = {}
  for at = 1, #packed, size do
    local sh, sl, eh, el, x = unpack('>I4I4I4I4B', packed, at + 16)
    list[#list + 1] = { who = sub(packed, at, at + 15), sh = sh, sl = sl, eh = eh, el = el, x = x,
      pid = sub(packed, at + 33, at + 36), ticket = sub(packed, at + 37, at + 44),
      barge = size == WAITING_BYTES and string.byte(packed, at + 45) or 0 }
  end
  return list
end

local function render(list, waiting)
  local out = {}
  for i = 1, #list do
    local r = list[i]
    out[i] = r.who .. pack('>I4I4I4I4B', r.sh, r.sl, r.eh, r.el, r.x) .. r.pid
    if waiting then out[i] = out[i] .. r.ticket .. string.char(r.barge) end
  end
  return table.concat(out)
end

local function book(ino, kind)
  local _, _, l = where(ino)
  local key = P .. 'k' .. fmt('%d', l)
  local both = call('HMGET', key, kind, string.upper(kind))
  return { key = key, ino = ino, kind = kind, held = parse(both[1] or '', HELD_BYTES),
    queue = parse(both[2] or '', WAITING_BYTES) }
end

local function save(b)
  for field, value in pairs({ [b.kind] = render(b.held, false),
    [string.upper(b.kind)] = render(b.queue, true) }) do
    if value == '' then call('HDEL', b.key, field) else call('HSET', b.key, field, value) end
  end
end

local function attributes(ino)
  local key, field = where(ino)
  return call('HGET', key, field) or ''
end

local function conflict(a, b)
  return a.who ~= b.who and (a.x == 1 or b.x == 1)
    and not less(a.eh, a.el, b.sh, b.sl) and not less(b.eh, b.el, a.sh, a.sl)
end

local function has(list, who)
  for i = 1, #list do
    if list[i].who == who then return true end
  end
  return false
end

-- Whether `r` could be held now, with `ahead` requests before it. Who holds a part of the file
-- already overtakes: those ahead may be waiting for just that part.
local function free(b, r, ahead)
  for i = 1, #b.held do
    if conflict(b.held[i], r) then return false end
  end
  if r.barge == 1 then return true end
  for i = 1, ahead do
    if conflict(b.queue[i], r) then return has(b.held, r.who) end
  end
  return true
end

-- What is held once `r` is: POSIX's splitting and merging. `r.x` nil takes away.
local function assign(held, r)
  local out, sh, sl, eh, el = {}, r.sh, r.sl, r.eh, r.el
  local function keep(o, h1, l1, h2, l2)
    out[#out + 1] = { who = o.who, sh = h1, sl = l1, eh = h2, el = l2, x = o.x, pid = o.pid }
  end
  for i = 1, #held do
    local o = held[i]
    if o.who ~= r.who then
      out[#out + 1] = o
    elseif o.x == r.x then
      local oh, ol = up(o.eh, o.el)
      local rh, rl = up(r.eh, r.el)
      if less(oh, ol, r.sh, r.sl) or less(rh, rl, o.sh, o.sl) then
        out[#out + 1] = o
      else
        if less(o.sh, o.sl, sh, sl) then sh, sl = o.sh, o.sl end
        if less(eh, el, o.eh, o.el) then eh, el = o.eh, o.el end
      end
    elseif less(o.eh, o.el, r.sh, r.sl) or less(r.eh, r.el, o.sh, o.sl) then
      out[#out + 1] = o
    else
      if less(o.sh, o.sl, r.sh, r.sl) then keep(o, o.sh, o.sl, down(r.sh, r.sl)) end
      if less(r.eh, r.el, o.eh, o.el) then
        local h, l = up(r.eh, r.el)
        keep(o, h, l, o.eh, o.el)
      end
    end
  end
  if r.x then keep(r, sh, sl, eh, el) end
  return out
end

-- Notes in `kw` that `who` waits here once more, or once less.
local function waits(b, who, more)
  if b.kind ~= 'p' then return end
  local list = call('HGET', P .. 'kw', who) or ''
  if more then
    call('HSET', P .. 'kw', who, list .. b.ino)
    return
  end
  for at = 1, #list, 8 do
    if sub(list, at, at + 7) == b.ino then
      list = sub(list, 1, at - 1) .. sub(list, at + 8)
      break
    end
  end
  if list == '' then call('HDEL', P .. 'kw', who) else call('HSET', P .. 'kw', who, list) end
end

-- Grants told to the session that asked, in its reply, and to the others, by a message.
local own, told = '', ''

-- Grants what can be granted, first come, first served; `me` is the session that asked.
local function settle(b, me)
  local again = #b.queue > 0
  while again do
    again = false
    local i = 1
    while i <= #b.queue do
      local w = b.queue[i]
      if free(b, w, i - 1) then
        table.remove(b.queue, i)
        b.held = assign(b.held, w)
        waits(b, w.who, false)
        local attr = attributes(b.ino)
        local news = b.ino .. w.ticket .. string.char(#attr) .. attr
        local session = sub(w.who, 1, 8)
        if session == me then own = own .. news else told = told .. 'L' .. session .. news end
        -- Its lock may have been lowered by that, which may let those before it go.
        again = true
      else
        i = i + 1
      end
    end
  end
end

-- Strikes the inode from what the session has locks on, if that is so.
local function strike(b, session)
  local all = call('HMGET', b.key, 'p', 'f', 'P', 'F')
  for i = 1, 4 do
    local size = i < 3 and HELD_BYTES or WAITING_BYTES
    for at = 1, #(all[i] or ''), size do
      if sub(all[i], at, at + 7) == session then return end
    end
  end
  call('ZREM', P .. 'ks', session .. b.ino)
end

local function remains(b, who)
  return (has(b.held, who) or has(b.queue, who)) and '\1' or '\0'
end
