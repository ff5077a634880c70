-- Makes a shard's keys.
-- ARGV[1] = packed attributes of the root directory; ARGV[2] = first inode number to give out;
-- ARGV[3] = most inodes; ARGV[4] = most bytes; ARGV[5..] = fields of the volume's record.
-- Reply: 0, or EEXIST: there is a volume, nothing was changed.
if call('EXISTS', P .. 'v', C) > 0 then return '\17' end
call('HSET', P .. 'a0', 1, ARGV[1])
call('HSET', C, 'n', 0, 'inodes', 1, 'bytes', 0, 'next_ino', ARGV[2], 'next_slice', 1,
  'next_session', 0, 'oseq', 0, 'epoch', 0, 'max_inodes', ARGV[3], 'max_bytes', ARGV[4])
call('HSET', P .. 'v', spread(ARGV, 5))
return '\0'
