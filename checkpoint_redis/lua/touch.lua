-- KEYS: a key that nothing else uses
-- Stores something and removes it. Newer servers confirm with WAIT only what its connection has written; a request that
-- is repeated on another connection may find everything done, and would be confirmed by replicas that have none of it.
redis.call('UNLINK', KEYS[1]) -- a full server lets a script store only once it has removed something
redis.call('SET', KEYS[1], '')
redis.call('UNLINK', KEYS[1])
return false
