-- The index of a bucket is one sorted set whose scores are all 0, so its members are sorted by their bytes. NUL, which
-- no id contains and which sorts below every other byte, separates the parts of a member. Times have 16 digits. Those
-- from 2^53 on, which numbers of Lua cannot all be, are in hexadecimal: an f, which sorts above, and 15 digits.
--
--   (empty)                          there from set-up on; an index without it was evicted
--   i thread meta                    every thread; meta as in the thread's field m
--   t updated thread                 threads with a checkpoint, by time of their last change
--   w written thread task idx        waiting tasks, by the time of their question
--   e expires thread                 threads that expire
--   q deadline thread                threads with staged chunks (stage.lua)
--   c checkpoint thread ns           visible checkpoints
--   o thread checkpoint ns [run]     the same by thread
--   r run thread                     threads with a visible checkpoint of the run
--
-- meta is `created updated expires`, each as above, then for each waiting task `written questions,task NUL idx NUL`.
-- created is 0 until the first checkpoint, expires is 0 for never. Times are in microseconds, expires in milliseconds.

local NEVER = string.rep('0', 16)

-- A thread's created if its first checkpoint has the time 0.
local AT_ZERO = 'f' .. string.rep('0', 15)

-- How many checkpoints of expired threads a listing forgets at most, which takes a few milliseconds.
local FORGOTTEN_AT_ONCE = 500

local function created_of(meta) return string.sub(meta, 1, 16) end

local function updated_of(meta) return string.sub(meta, 17, 32) end

local function expires_of(meta) return string.sub(meta, 33, 48) end

local function waiting_of(meta) return string.sub(meta, 49) end

local function meta_of(created, updated, expires, waiting) return created .. updated .. expires .. waiting end

local function now_ms()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function digits(number) return string.format('%016.0f', number) end

-- A time of 8 bytes as the index has it.
local function digits_of(bytes)
    local high, low = struct.unpack('>I4I4', bytes)
    if high < 2^21 then return digits(high * 2^32 + low) end
    return string.format('f%07x%08x', math.min(high, 2^28 - 1), low)
end

local function thread_key(index, thread) return string.sub(index, 1, -6) .. 'thread:' .. thread end

local function is_intact(index) return redis.call('ZSCORE', index, '') end

local function lost(what) return redis.error_reply('LOSTTHREAD ' .. what) end

local function damaged(thread) return redis.error_reply('DAMAGEDTHREAD ' .. thread) end

-- What to return where reading a thread has failed. The error of a command, as of a full server, stays what it is.
local function unreadable(thread, problem)
    if type(problem) ~= 'string' or not string.find(problem, '^user_script:') then error(problem, 0) end
    return redis.error_reply('UNREADABLETHREAD ' .. thread)
end

local function lost_index(index) return redis.error_reply('LOSTINDEX ' .. index) end

-- A thread's field q lists its staged chunks: their deadline in 16 digits, then for each writer its mark and the ids of
-- what it has staged (stage.lua). A mark is as long as an id and begins with eight NULs, as no id ever will. Who only
-- looks for ids may take marks for ids of chunks that are not there.
local function deadline_of(staged) return string.sub(staged, 1, 16) end

local function staged_ids(staged) return string.sub(staged, 17) end

-- Calls `act(id, writer)` for all that is staged. What several writers have staged comes once for each.
local function each_staged(staged, act)
    local writer = ''
    each_id(staged_ids(staged), function(id)
        if string.byte(id) == 0 and string.find(id, '^%z%z%z%z%z%z%z%z') then writer = id else act(id, writer) end
    end)
end

-- The marks and ids of a list of staged chunks, for those that `keep(id, writer)` wants.
local function staged_left(staged, keep)
    local left, last = {}, ''
    each_staged(staged, function(id, writer)
        if keep(id, writer) then
            if writer ~= last then left[#left + 1], last = writer, writer end
            left[#left + 1] = id
        end
    end)
    return table.concat(left)
end

local function checkpoint_entry(thread, checkpoint, ns) return 'c' .. checkpoint .. '\0' .. thread .. '\0' .. ns end

local function order_entry(thread, checkpoint, ns, run)
    return 'o' .. thread .. '\0' .. checkpoint .. '\0' .. ns .. (run and '\0' .. run or '')
end

local function run_entry(thread, run) return 'r' .. run .. '\0' .. thread end

local function expiry_entry(thread, expires) return 'e' .. expires .. '\0' .. thread end

local function staged_entry(thread, deadline) return 'q' .. deadline .. '\0' .. thread end

-- The parts of an `o` member: thread, checkpoint, namespace, and the run if there is one.
local function parse_order(member)
    local thread, checkpoint, rest = string.match(member, '^o([^%z]*)%z([^%z]*)%z(.*)$')
    local ns, run = string.match(rest, '^([^%z]*)%z(.*)$')
    return thread, checkpoint, ns or rest, run
end

-- Members t, w, e and q begin with a time, and NUL separates it from the rest.
local function time_of(member) return string.sub(member, 2, 17) end

local function after_time(member) return string.sub(member, 19) end

-- Adds the entries that follow from a thread's meta.
local function entries_of(thread, meta, into)
    local function add(member) into[#into + 1] = member end
    add('i' .. thread .. '\0' .. meta)
    if created_of(meta) ~= NEVER then add('t' .. updated_of(meta) .. '\0' .. thread) end
    if expires_of(meta) ~= NEVER then add(expiry_entry(thread, expires_of(meta))) end
    for written, task, idx in string.gmatch(waiting_of(meta), '(%x+) %d+,([^%z]*)%z([^%z]*)%z') do
        add('w' .. written .. '\0' .. thread .. '\0' .. task .. '\0' .. idx)
    end
end

-- Replaces the entries that follow from a thread's old meta by those of the new one; adds `more`: `score, member, …`.
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

-- Removes at most `limit` checkpoints of a thread from the index, and its other entries once no checkpoint is left.
-- Returns what is left of the limit.
local function forget(index, thread, meta, limit)
    while limit > 0 do
        local size = math.min(limit, 500)
        local found = redis.call('ZRANGEBYLEX', index, '[o' .. thread .. '\0', '(o' .. thread .. '\1', 'LIMIT', 0, size)
        local gone = {}
        for _, member in ipairs(found) do
            local _, checkpoint, ns, run = parse_order(member)
            gone[#gone + 1] = member
            gone[#gone + 1] = checkpoint_entry(thread, checkpoint, ns)
            if run then gone[#gone + 1] = run_entry(thread, run) end
        end
        call_in_batches('ZREM', index, gone)
        if #found < size then
            gone = {}
            entries_of(thread, meta, gone)
            call_in_batches('ZREM', index, gone)
            return limit - #found - 1
        end
        limit = limit - size
    end
    return limit
end

-- The meta of a thread as the index has it, or nil.
local function indexed_meta(index, thread)
    local found = redis.call('ZRANGEBYLEX', index, '[i' .. thread .. '\0', '(i' .. thread .. '\1', 'LIMIT', 0, 1)[1]
    return found and string.sub(found, #thread + 3)
end

-- The latest checkpoint of a thread's root namespace as the index has it. Looks at a few of the thread's latest, because
-- subgraphs may have stored more than the root since; empty if the root's is not among them.
local function indexed_latest(index, thread)
    local found = redis.call(
        'ZREVRANGEBYLEX', index, '(o' .. thread .. '\1', '[o' .. thread .. '\0', 'LIMIT', 0, 20)
    for _, member in ipairs(found) do
        local _, checkpoint, ns = parse_order(member)
        if ns == '' then return checkpoint end
    end
    return ''
end

-- Why a thread has no meta: it never had one (nil), has expired (nil, and its entries go) or was evicted (an error).
-- A listing may meet thousands of threads that expired together: it forgets `spare.left` checkpoints at most.
local function why_absent(index, thread, spare)
    if not is_intact(index) then return lost_index(index) end
    local meta = indexed_meta(index, thread)
    if not meta then return nil end
    local expires = tonumber(expires_of(meta))
    if expires == 0 or expires > now_ms() then return lost(thread) end
    local left = forget(index, thread, meta, spare and spare.left or math.huge)
    if spare then spare.left = left end
    return nil
end

-- Why a thread with this meta cannot be changed, or nil. Without a meta, see above. Otherwise its index was evicted, or
-- hash or index was damaged, so that a change would leave entries that belong to nothing.
local function why_unknown(index, thread, meta)
    if not meta then return why_absent(index, thread) end
    if redis.call('ZSCORE', index, 'i' .. thread .. '\0' .. meta) then return nil end
    return is_intact(index) and damaged(thread) or lost_index(index)
end

-- Drops staged chunks that nobody has claimed.
local function drop_staged(hash, index, thread, staged)
    local gone = {'q'}
    each_id(staged_ids(staged), function(id)
        gone[#gone + 1] = '#' .. id
        gone[#gone + 1] = '+' .. id
    end)
    call_in_batches('HDEL', hash, gone)
    redis.call('ZREM', index, staged_entry(thread, deadline_of(staged)))
end

-- Two ways to tidy up: after a few threads of the bucket that have expired, and after a writer that died while it staged
-- chunks. Every script that writes or lists does this, so that nothing stays for long. It is bounded, so that nobody
-- waits for it. A script that stores tidies up after writers first: that makes room on a full server, which lets a script
-- store once it has removed something.

local function sweep_expired(index, now)
    local due = redis.call('ZRANGEBYLEX', index, '[e', '(e' .. digits(now), 'LIMIT', 0, 2)
    for _, member in ipairs(due) do
        local thread = after_time(member)
        local meta = indexed_meta(index, thread)
        local is_current = meta and expiry_entry(thread, expires_of(meta)) == member
        if not is_current then
            redis.call('ZREM', index, member)
        elseif redis.call('EXISTS', thread_key(index, thread)) == 0 then
            forget(index, thread, meta, 200)
        end
    end
end

local function sweep_staged(index, now)
    local due = redis.call('ZRANGEBYLEX', index, '[q', '(q' .. digits(now), 'LIMIT', 0, 1)
    for _, member in ipairs(due) do
        local thread = after_time(member)
        local hash = thread_key(index, thread)
        local staged = redis.call('HGET', hash, 'q')
        if staged and deadline_of(staged) == time_of(member) then
            drop_staged(hash, index, thread, staged)
        else
            redis.call('ZREM', index, member)
        end
    end
end

local function sweep(index, now)
    sweep_staged(index, now)
    sweep_expired(index, now)
end
