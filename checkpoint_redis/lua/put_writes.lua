-- uses: bytes index records thread
-- KEYS: thread, index
-- ARGV: thread, ns, checkpoint, written_at, ttl, 1 if a write asks a question, joined ids of chunks that must be
--       stored, joined ids of chunks staged for these writes, number of write arguments;
--       then `task NUL idx NUL`, 1 if the first write wins, and the write …, chunk field and entry …
-- Returns nothing, or the joined ids of missing chunks
local hash, index = KEYS[1], KEYS[2]
local thread, ns, checkpoint, written_at, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local asks, needed, own = ARGV[6] == '1', ARGV[7], ARGV[8]
local writes_begin = 10
local writes_end = writes_begin - 1 + tonumber(ARGV[9])
local place = ns .. '\0' .. checkpoint

local now = now_ms()
sweep_staged(index, now)
local found = redis.call('HMGET', hash, 'm', 'q', 's' .. ns, 'w' .. place)
local meta, staged, latest, listed = found[1], found[2], found[3], found[4] or ''
local problem = why_unknown(index, thread, meta)
if problem then return problem end
local absent = missing_chunks(hash, needed, own, staged)
if absent ~= '' then return absent end

local stored, brought, more = {}, {}, {}
for at = writes_begin, writes_end, 3 do
    local field = 'p' .. place .. '\0' .. string.sub(ARGV[at], 1, -2)
    local is_there = redis.call('HEXISTS', hash, field) == 1
    if not is_there then more[#more + 1] = ARGV[at] end
    if not is_there or ARGV[at + 1] ~= '1' then
        stored[#stored + 1] = field
        stored[#stored + 1] = ARGV[at + 2]
        brought[field] = ARGV[at + 2]
    end
end
if #more > 0 then
    listed = listed .. table.concat(more)
    stored[#stored + 1] = 'w' .. place
    stored[#stored + 1] = listed
end
for at = writes_end + 1, #ARGV do stored[#stored + 1] = ARGV[at] end

local created, updated, waiting = NEVER, written_at, ''
if meta then
    created, updated, waiting = created_of(meta), later(updated_of(meta), written_at), waiting_of(meta)
end
if ns == '' and latest == checkpoint and (asks or waiting ~= '') then
    -- Only the entries of these tasks are made anew: thousands of tasks may wait, and each of them writes. And before
    -- the first change, because other writes of theirs may be damaged, and Redis takes back nothing if a script fails.
    local tasks, kept = {}, {}
    for at = writes_begin, writes_end, 3 do tasks[string.match(ARGV[at], '^[^%z]*')] = true end
    for entry, task in string.gmatch(waiting, '(%x+ %d+,([^%z]*)%z[^%z]*%z)') do
        if not tasks[task] then kept[#kept + 1] = entry end
    end
    waiting = table.concat(kept) .. waiting_on(hash, checkpoint, listed, tasks, brought)
end
call_in_batches('HSET', hash, stored)
if staged then claim_staged(hash, index, thread, staged, own, stored) end
set_meta(hash, index, thread, meta, meta_of(created, updated, NEVER, waiting), ttl, now, {})
sweep_expired(index, now)
return false
