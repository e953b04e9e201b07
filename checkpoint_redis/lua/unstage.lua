-- uses: bytes index
-- KEYS: thread, index
-- ARGV: thread, writer's mark (index.lua)
-- Drops the chunks that a writer has staged and has no use for any more, except for those that others have staged, too.
local hash, index, thread, writer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local staged = redis.call('HGET', hash, 'q')
if not staged then return false end
local is_others, own, gone = {}, {}, {''}
local left = staged_left(staged, function(id, owner)
    if owner == writer then
        own[#own + 1] = id
        return false
    end
    is_others[id] = true
    return true
end)
if #own == 0 then return false end
for _, id in ipairs(own) do
    if not is_others[id] then
        gone[#gone + 1] = '#' .. id
        gone[#gone + 1] = '+' .. id
    end
end
call_in_batches('HDEL', hash, gone) -- first: a full server lets a script store only once it has removed something
if left == '' then
    redis.call('HDEL', hash, 'q')
    redis.call('ZREM', index, staged_entry(thread, deadline_of(staged)))
else
    redis.call('HSET', hash, 'q', deadline_of(staged) .. left)
end
return false
