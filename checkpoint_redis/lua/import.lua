-- KEYS: copy
-- ARGV: milliseconds until the copy is dropped; then field and value …
-- Stores a piece of a thread that is being copied, under a key of the copy's own. adopt.lua takes it over.
for at = 2, #ARGV, 2000 do
    redis.call('HSET', KEYS[1], unpack(ARGV, at, math.min(at + 1999, #ARGV)))
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return false
