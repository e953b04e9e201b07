-- KEYS: layout; or the index, for fill
-- ARGV: begin, fill or finish; the layout, for begin and finish
-- One step of `RedisStore.setup`.
if ARGV[1] == 'begin' then
    redis.call('SET', KEYS[1], 'creating ' .. ARGV[2], 'NX')
elseif ARGV[1] == 'fill' then
    redis.call('ZADD', KEYS[1], 0, '')
elseif ARGV[1] == 'finish' and redis.call('GET', KEYS[1]) == 'creating ' .. ARGV[2] then
    redis.call('SET', KEYS[1], ARGV[2])
end
return false
