-- Puts right a shard's usage counters while nobody uses the volume.
-- KEYS[1] = the shard's control record; ARGV = inodes and bytes that it has now, inodes and bytes
-- that were counted (all decimal).
-- Reply: 0 done; -1 the counters have changed since they were read; n > 0 sessions are registered.
-- Invariant: counters change only under those who counted what they must be.
local c = redis.call('HMGET', KEYS[1], 'n', 'inodes', 'bytes')
if tonumber(c[1] or '0') > 0 then return tonumber(c[1]) end
if (c[2] or '0') ~= ARGV[1] or (c[3] or '0') ~= ARGV[2] then return -1 end
redis.call('HSET', KEYS[1], 'inodes', ARGV[3], 'bytes', ARGV[4])
return 0
