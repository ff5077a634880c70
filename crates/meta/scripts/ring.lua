-- The ring's epoch and table.   Reply: 0 | epoch (8) | table.
return '\0' .. pack('>I8', tonumber(call('HGET', C, 'epoch') or '0'))
  .. (call('GET', P .. 'ring') or '')
