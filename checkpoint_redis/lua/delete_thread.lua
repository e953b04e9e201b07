-- uses: bytes index
-- KEYS: thread, index
-- ARGV: thread
local meta, indexed = redis.call('HGET', KEYS[1], 'm'), indexed_meta(KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[1])
if meta then forget(KEYS[2], ARGV[1], meta, math.huge) end
-- The two differ if one of them was damaged or lost.
if indexed and indexed ~= meta then forget(KEYS[2], ARGV[1], indexed, math.huge) end
sweep(KEYS[2], now_ms())
return false
