-- uses: bytes index
-- KEYS: thread, index
-- ARGV: thread
local meta, listed = redis.call('HGET', KEYS[1], 'm'), entry_of(KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
if meta then forget(KEYS[2], ARGV[1], meta, math.huge) end
-- They differ when one of them was damaged or lost.
if listed and listed ~= meta then forget(KEYS[2], ARGV[1], listed, math.huge) end
sweep(KEYS[2], now_ms())
return false
