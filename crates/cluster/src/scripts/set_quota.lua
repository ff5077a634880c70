-- Puts right what an owner, a group or a directory tree is said to use, while nobody uses the volume.
-- KEYS[1] = the shard's control record; ARGV = field of `u`; inodes and bytes that it has now, inodes
-- and bytes that were counted, sessions that are agents, which do not count (decimal).
-- Reply: 0 done; -1 it has changed since it was read; n > 0 sessions are at work.
local sessions = tonumber(redis.call('HGET', KEYS[1], 'n') or '0') - tonumber(ARGV[6])
if sessions > 0 then return sessions end
local key = string.sub(KEYS[1], 1, -2) .. 'u'
local record = redis.call('HGET', key, ARGV[1]) or struct.pack('>I8I8I8I8', 0, 0, 0, 0)
local inodes, bytes = struct.unpack('>I8I8', record)
if inodes ~= tonumber(ARGV[2]) or bytes ~= tonumber(ARGV[3]) then return -1 end
redis.call('HSET', key, ARGV[1],
  struct.pack('>I8I8', tonumber(ARGV[4]), tonumber(ARGV[5])) .. string.sub(record, 17))
return 0
