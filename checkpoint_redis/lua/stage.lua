-- uses: bytes index records thread
-- KEYS: thread, index
-- ARGV: thread, writer's mark (index.lua), milliseconds until staged chunks are dropped; then field and entry …
-- Stores a piece of a large value: chunks, ahead of the value that refers to them. The put of that value claims them.
-- Until then they are on a list, and dropped by unstage.lua if that put fails, or else at a deadline: by the sweep, or
-- with the hash if it holds nothing else.
local hash, index, thread, writer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local now = now_ms()
sweep_staged(index, now)
local found = redis.call('HMGET', hash, 'm', 'q')
local meta, staged = found[1], found[2]
local problem = why_unknown(index, thread, meta)
if problem then return problem end
local deadline = digits(now + tonumber(ARGV[3]))
local owner_of, last, list, stored = {}, '', {}, {}
if staged then
    list[1] = staged_ids(staged)
    each_staged(staged, function(id, owner)
        if owner_of[id] ~= writer then owner_of[id] = owner end
        last = owner
    end)
end
for at = 4, #ARGV, 2 do
    local id = string.sub(ARGV[at], 2)
    -- A chunk that is stored but not listed belongs to a value, and must not be dropped. One that another writer has
    -- staged is listed for this one as well, so that it stays if the other takes it back.
    if kind_of(ARGV[at]) == '#' and owner_of[id] ~= writer
        and (owner_of[id] or redis.call('HEXISTS', hash, ARGV[at]) == 0) then
        if last ~= writer then list[#list + 1], last = writer, writer end
        list[#list + 1] = id
    end
    stored[#stored + 1] = ARGV[at]
    stored[#stored + 1] = ARGV[at + 1]
end
local listed = table.concat(list)
if listed ~= '' then
    stored[#stored + 1] = 'q'
    stored[#stored + 1] = deadline .. listed
end
-- Before anything is removed: that would let it go on and on beyond the memory that the server may use.
call_in_batches('HSET', hash, stored)
if staged then redis.call('ZREM', index, staged_entry(thread, deadline_of(staged))) end
if not meta then
    redis.call('PEXPIREAT', hash, string.format('%.0f', now + tonumber(ARGV[3])))
elseif listed ~= '' then
    redis.call('ZADD', index, 0, staged_entry(thread, deadline))
end
sweep_expired(index, now)
return false
