-- The index of a bucket is one sorted set whose scores are all 0, so that its members are in the order of their bytes.
-- Parts of a member are separated by NUL, which no id holds and which is below every other byte. Times are 16 digits.
--
--   (empty)                          there from set-up on: an index without it was evicted
--   i thread meta                    every thread; meta as in the thread's field m
--   t updated thread                 threads with a checkpoint, by time of their last change
--   w written thread task idx        tasks that wait, by the time of their question
--   e expires thread                 threads that expire
--   q deadline thread                threads with staged chunks (stage.lua)
--   c checkpoint thread ns           visible checkpoints
--   o thread checkpoint ns [run]     the same by thread
--   r run thread                     threads with a visible checkpoint of a run
--
-- meta is `created updated expires`, 16 digits each, then for each task that waits `written questions,task NUL idx NUL`.
-- created is 0 until the first checkpoint, expires is 0 for never. Times are microseconds, expires milliseconds.

local NEVER = string.rep('0', 16)

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function digits(number) return string.format('%016.0f', number) end

local function thread_key(index, thread) return string.sub(index, 1, -6) .. 'thread:' .. thread end

local function is_intact(index) return redis.call('ZSCORE', index, '') end

local function lost(what) return redis.error_reply('LOSTTHREAD ' .. what) end

local function damaged(thread) return redis.error_reply('DAMAGEDTHREAD ' .. thread) end

local function lost_index(index) return redis.error_reply('LOSTINDEX ' .. index) end

-- The entries that come with a meta.
local function entries_of(thread, meta, into)
    local function add(member) into[#into + 1] = member end
    add('i' .. thread .. '\0' .. meta)
    if string.sub(meta, 1, 16) ~= NEVER then add('t' .. string.sub(meta, 17, 32) .. '\0' .. thread) end
    if string.sub(meta, 33, 48) ~= NEVER then add('e' .. string.sub(meta, 33, 48) .. '\0' .. thread) end
    if #meta > 48 then
        for written, task, idx in string.gmatch(string.sub(meta, 49), '(%d+) %d+,([^%z]*)%z([^%z]*)%z') do
            add('w' .. written .. '\0' .. thread .. '\0' .. task .. '\0' .. idx)
        end
    end
end

-- Bring the entries that come with a meta up to a new one, and add `more`, members behind their scores.
local function replace_entries(index, thread, old, new, more)
    local before, after, is_new, gone = {}, {}, {}, {}
    if old then entries_of(thread, old, before) end
    entries_of(thread, new, after)
    for _, member in ipairs(after) do is_new[member] = true end
    for _, member in ipairs(before) do
        if is_new[member] then is_new[member] = false else gone[#gone + 1] = member end
    end
    for _, member in ipairs(after) do
        if is_new[member] then more[#more + 1], more[#more + 2] = 0, member end
    end
    call_in_batches('ZREM', index, gone)
    call_in_batches('ZADD', index, more)
end

local function order_entry(thread, checkpoint, ns, run)
    return 'o' .. thread .. '\0' .. checkpoint .. '\0' .. ns .. (run and '\0' .. run or '')
end

-- The parts of an `o` member: thread, checkpoint, namespace, and the run if there is one.
local function parse_order(member)
    local thread, checkpoint, rest = string.match(member, '^o([^%z]*)%z([^%z]*)%z(.*)$')
    local ns, run = string.match(rest, '^([^%z]*)%z(.*)$')
    return thread, checkpoint, ns or rest, run
end

-- Remove a thread from the index, at most `limit` checkpoints of it; whether that was all.
local function forget(index, thread, meta, limit)
    while limit > 0 do
        local size = math.min(limit, 500)
        local found = redis.call('ZRANGEBYLEX', index, '[o' .. thread .. '\0', '(o' .. thread .. '\1', 'LIMIT', 0, size)
        local gone = {}
        for _, member in ipairs(found) do
            local _, checkpoint, ns, run = parse_order(member)
            gone[#gone + 1] = member
            gone[#gone + 1] = 'c' .. checkpoint .. '\0' .. thread .. '\0' .. ns
            if run then gone[#gone + 1] = 'r' .. run .. '\0' .. thread end
        end
        call_in_batches('ZREM', index, gone)
        if #found < size then
            gone = {}
            entries_of(thread, meta, gone)
            call_in_batches('ZREM', index, gone)
            return true
        end
        limit = limit - size
    end
    return false
end

local function entry_of(index, thread)
    local found = redis.call('ZRANGEBYLEX', index, '[i' .. thread .. '\0', '(i' .. thread .. '\1', 'LIMIT', 0, 1)[1]
    return found and string.sub(found, #thread + 3)
end

-- Why a thread has no hash: never there (nil), expired (nil, and forgotten from now on), or evicted (an error).
local function why_absent(index, thread)
    if not is_intact(index) then return lost_index(index) end
    local meta = entry_of(index, thread)
    if not meta then return nil end
    local expires = tonumber(string.sub(meta, 33, 48))
    if expires == 0 or expires >= now_ms() then return lost(thread) end
    forget(index, thread, meta, math.huge)
    return nil
end

-- Why a thread of this meta cannot be changed, if it cannot: it has no hash, its index was evicted, or one of the two was
-- damaged, and entries that no longer belong to anything would be left.
local function why_unknown(index, thread, meta)
    if not meta then return why_absent(index, thread) end
    if redis.call('ZSCORE', index, 'i' .. thread .. '\0' .. meta) then return nil end
    return is_intact(index) and damaged(thread) or lost_index(index)
end

-- Drop staged chunks that nobody came back for.
local function drop_staged(hash, index, thread, staged)
    local gone = {'q'}
    each_id(string.sub(staged, 17), function(id)
        gone[#gone + 1] = '#' .. id
        gone[#gone + 1] = '+' .. id
    end)
    call_in_batches('HDEL', hash, gone)
    redis.call('ZREM', index, 'q' .. string.sub(staged, 1, 16) .. '\0' .. thread)
end

-- Tidy up after a few threads of the bucket that have expired, or whose writer died while it staged chunks. Part of
-- every script that writes or lists, so that nothing stays for long, and bounded, so that nobody waits for it.
local function sweep(index, now)
    local due = redis.call('ZRANGEBYLEX', index, '[e', '(e' .. digits(now), 'LIMIT', 0, 2)
    for _, member in ipairs(due) do
        local thread = string.sub(member, 19)
        local meta = entry_of(index, thread)
        local known = meta and 'e' .. string.sub(meta, 33, 48) .. '\0' .. thread == member
        if not known then
            redis.call('ZREM', index, member)
        elseif redis.call('EXISTS', thread_key(index, thread)) == 0 then
            forget(index, thread, meta, 200)
        end
    end
    due = redis.call('ZRANGEBYLEX', index, '[q', '(q' .. digits(now), 'LIMIT', 0, 1)
    for _, member in ipairs(due) do
        local thread = string.sub(member, 19)
        local hash = thread_key(index, thread)
        local staged = redis.call('HGET', hash, 'q')
        if staged and string.sub(staged, 1, 16) == string.sub(member, 2, 17) then
            drop_staged(hash, index, thread, staged)
        else
            redis.call('ZREM', index, member)
        end
    end
end
