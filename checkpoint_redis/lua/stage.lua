-- uses: bytes index records thread
-- KEYS: thread, index
-- ARGV: thread, milliseconds until staged chunks are dropped; then field and entry …
-- Stores a piece of a large value: chunks, ahead of the value that refers to them. The put of that value claims them.
-- Until then they are on a list, and dropped at a deadline: by the sweep, or with the hash if it holds nothing else.
local hash, index, thread = KEYS[1], KEYS[2], ARGV[1]
local found = redis.call('HMGET', hash, 'm', 'q')
local meta, staged = found[1], found[2]
local problem = why_unknown(index, thread, meta)
if problem then return problem end
local now = now_ms()
local deadline = digits(now + tonumber(ARGV[2]))
local is_listed, ids, stored = {}, {}, {}
if staged then
    ids[1] = staged_ids(staged)
    each_id(ids[1], function(id) is_listed[id] = true end)
    redis.call('ZREM', index, staged_entry(thread, deadline_of(staged)))
end
for at = 3, #ARGV, 2 do
    local id = string.sub(ARGV[at], 2)
    -- A chunk that is stored but not listed belongs to a value, and must not be dropped.
    if kind_of(ARGV[at]) == '#' and not is_listed[id] and redis.call('HEXISTS', hash, ARGV[at]) == 0 then
        ids[#ids + 1] = id
    end
    stored[#stored + 1] = ARGV[at]
    stored[#stored + 1] = ARGV[at + 1]
end
local listed = table.concat(ids)
if listed ~= '' then
    stored[#stored + 1] = 'q'
    stored[#stored + 1] = deadline .. listed
end
call_in_batches('HSET', hash, stored)
if not meta then
    redis.call('PEXPIREAT', hash, string.format('%.0f', now + tonumber(ARGV[2])))
elseif listed ~= '' then
    redis.call('ZADD', index, 0, staged_entry(thread, deadline))
end
sweep(index, now)
return false
