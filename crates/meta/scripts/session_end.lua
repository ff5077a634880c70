-- A session leaves.   ARGV[1] = session (8).   Reply: 0, also if it was not registered any more.
leave(sub(ARGV[1], 1, 8))
return '\0'
