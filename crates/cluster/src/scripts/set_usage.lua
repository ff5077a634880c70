-- Puts right a shard's usage counters while nobody uses the volume.
-- KEYS[1] = the shard's control record; ARGV = inodes and bytes that it has now, inodes and bytes
-- that were counted, sessions that are agents, which do not count (all decimal).
-- Reply: 0 done; -1 the counters have changed since they were read; n > 0 sessions are at work.
-- Invariant: counters change only under those who counted what they must be.
local c = redis.call('HMGET', KEYS[1], 'n', 'inodes', 'bytes')
local sessions = tonumber(c[1] or '0') - tonumber(ARGV[5])
if sessions > 0 then return sessions end
if (c[2] or '0') ~= ARGV[1] or (c[3] or '0') ~= ARGV[2] then return -1 end
redis.call('HSET', KEYS[1], 'inodes', ARGV[3], 'bytes', ARGV[4])
return 0
