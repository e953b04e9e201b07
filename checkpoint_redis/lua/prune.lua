-- uses: bytes index records retention
-- KEYS: thread, index
-- ARGV: thread
local meta = redis.call('HGET', KEYS[1], 'm')
if not meta then return why_absent(KEYS[2], ARGV[1]) end
if not is_intact(KEYS[2]) then return lost_index(KEYS[2]) end
retain(KEYS[1], KEYS[2], ARGV[1], meta, nil)
sweep(KEYS[2], now_ms())
return false
