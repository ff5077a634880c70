-- Part of a block, in one round trip.
--
-- KEYS[1]  the block's key; its value is a frame (see frame.rs)
-- ARGV[1]  first raw byte wanted
-- ARGV[2]  last raw byte wanted
-- ARGV[3]  bytes that header and index probably have
-- Reply    nil if there is no such key; else header and index, and the stored bytes of the
--          segments that the range touches
--
-- Reads only. Verifies nothing: the client checks every byte that it gets, so for a frame that
-- makes no sense it is enough to answer something, and to stay within the value's own bytes.

local PREFIX, ENTRY, SEGMENTS_MAX = 48, 8, 1024

local guess = tonumber(ARGV[3])
local head = redis.call('GETRANGE', KEYS[1], 0, guess - 1)
if #head == 0 then
  return false
end
if #head < PREFIX then
  return {head, ''}
end

local shift = string.byte(head, 7)
local segments = struct.unpack('>I4', head, 41)
if segments == 0 or segments > SEGMENTS_MAX or shift > 20 then
  return {head, ''}
end
local head_bytes = PREFIX + ENTRY * segments + 4
if head_bytes < #head then
  head = string.sub(head, 1, head_bytes)
elseif head_bytes > #head then
  head = redis.call('GETRANGE', KEYS[1], 0, head_bytes - 1)
  if #head < head_bytes then
    return {head, ''}
  end
end

-- Where segment `number` ends, counted from the first segment's begin; the top bit is a flag.
local function segment_end(number)
  return struct.unpack('>I4', head, PREFIX + ENTRY * number + 1) % 2147483648
end

local segment_bytes = 2 ^ shift
local first = math.floor(tonumber(ARGV[1]) / segment_bytes)
local last = math.floor(tonumber(ARGV[2]) / segment_bytes)
if last >= segments or first > last then
  return {head, ''}
end
local from = 0
if first > 0 then
  from = segment_end(first - 1)
end
local to = segment_end(last)
if to <= from then
  return {head, ''}
end
return {head, redis.call('GETRANGE', KEYS[1], head_bytes + from, head_bytes + to - 1)}
