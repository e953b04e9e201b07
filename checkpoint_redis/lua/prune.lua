-- uses: bytes index records retention
-- KEYS: thread, index
-- ARGV: thread, how many checkpoints to keep of each namespace
local meta = redis.call('HGET', KEYS[1], 'm')
local problem = why_unknown(KEYS[2], ARGV[1], meta)
if problem or not meta then return problem end
retain(KEYS[1], KEYS[2], ARGV[1], meta, the_latest(tonumber(ARGV[2])))
sweep(KEYS[2], now_ms())
return false
