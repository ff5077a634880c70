-- Changes nothing, but takes a number of the lane.   Reply: 0.
-- Invariant: a request with a smaller number that is still on its way somewhere, after its sender
-- has been told that it failed, will find another number than the one it expects and do nothing.
call('DEL', P .. '~')  -- so that this works when memory is full
return finish('\0', '', 0, 0)
