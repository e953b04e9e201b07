-- KEYS: copy
-- Drops a copy (import.lua) that was not taken over.
redis.call('UNLINK', KEYS[1])
return false
