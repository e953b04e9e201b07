-- KEYS: layout; or the index, for seen and fill
-- ARGV: look, seen, begin, fill or finish; the layout, for begin and finish
-- One step of `RedisStore.setup`. The first two store nothing.
if ARGV[1] == 'look' then
    return redis.call('GET', KEYS[1])
elseif ARGV[1] == 'seen' then
    return redis.call('ZSCORE', KEYS[1], '')
elseif ARGV[1] == 'begin' then
    redis.call('SET', KEYS[1], 'creating ' .. ARGV[2], 'NX')
elseif ARGV[1] == 'fill' then
    redis.call('ZADD', KEYS[1], 0, '')
elseif ARGV[1] == 'finish' and redis.call('GET', KEYS[1]) == 'creating ' .. ARGV[2] then
    redis.call('SET', KEYS[1], ARGV[2])
end
return false
