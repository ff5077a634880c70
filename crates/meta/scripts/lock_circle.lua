-- Fragment: whether `r`, if it waited, would wait for itself: over all files and mounts, along
-- those who hold what a request needs and, if `queued`, those before it in a queue. Returns that,
-- the owners met and the books read. A search over more than SEARCH_MAX owners ends with no.
local function circle(b, r, queued)
  local met, books, todo, found = {}, { [b.ino] = b }, {}, false
  local function meet(who)
    if who == r.who then found = true end
    if not met[who] then
      met[who] = true
      todo[#todo + 1] = who
    end
  end
  local function follow(in_book, w, ahead)
    for i = 1, #in_book.held do
      if conflict(in_book.held[i], w) then meet(in_book.held[i].who) end
    end
    if not queued or w.barge == 1 or has(in_book.held, w.who) then return end
    for i = 1, ahead do
      if conflict(in_book.queue[i], w) then meet(in_book.queue[i].who) end
    end
  end
  follow(b, r, #b.queue)
  local at = 1
  while todo[at] and not found and at <= SEARCH_MAX do
    local inodes = call('HGET', P .. 'kw', todo[at]) or ''
    for i = 1, #inodes, 8 do
      local ino = sub(inodes, i, i + 7)
      books[ino] = books[ino] or book(ino, 'p')
      local in_book = books[ino]
      for ahead = 1, #in_book.queue do
        if in_book.queue[ahead].who == todo[at] then
          follow(in_book, in_book.queue[ahead], ahead - 1)
        end
      end
    end
    at = at + 1
  end
  return found, met, books
end
