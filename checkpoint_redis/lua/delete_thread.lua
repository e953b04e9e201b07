-- uses: bytes index
-- KEYS: thread, index
-- ARGV: thread
-- They differ when one of them was damaged, and what the index has is to go in any case.
local metas = {[redis.call('HGET', KEYS[1], 'm') or NEVER] = true, [entry_of(KEYS[2], ARGV[1]) or NEVER] = true}
redis.call('UNLINK', KEYS[1])
for meta in pairs(metas) do forget(KEYS[2], ARGV[1], meta, math.huge) end
sweep(KEYS[2], now_ms())
return false
