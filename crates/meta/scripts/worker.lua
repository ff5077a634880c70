-- Writes a background worker's record, or what is wanted of one.
-- ARGV[1] = its name; ARGV[2] = the record, empty to remove it.
-- Reply: 0. ENOENT: there is no volume any more.
-- Invariant: of a volume that was destroyed nothing comes back.
if call('EXISTS', P .. 'v') == 0 then return '\2' end
if ARGV[2] == '' then
  call('HDEL', P .. 'wk', ARGV[1])
else
  call('HSET', P .. 'wk', ARGV[1], ARGV[2])
end
return '\0'
