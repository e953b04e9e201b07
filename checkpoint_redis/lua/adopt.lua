-- uses: bytes index records thread
-- KEYS: thread, index, copy
-- ARGV: thread, meta of the source, ttl, number of fields of the copy
-- Turns a copy (import.lua) into the thread, or adds it to the thread that is there. Returns 1; 0 if the thread has a
-- visible checkpoint that the copy lacks; or nothing if the copy, or a part of it, has been lost meanwhile.
local hash, index, copy = KEYS[1], KEYS[2], KEYS[3]
local thread, source_meta, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms()
sweep_staged(index, now)
local found = redis.call('HMGET', hash, 'm', 'q')
local meta, staged = found[1], found[2]
local problem = why_unknown(index, thread, meta)
if problem then return problem end
if redis.call('HLEN', copy) ~= tonumber(ARGV[4]) then return false end

local replaced = {}
if meta then
    for _, field in ipairs(redis.call('HKEYS', hash)) do
        local record = kind_of(field) == 'c' and redis.call('HGET', hash, field)
        if is_visible(record) then
            if not is_visible(redis.call('HGET', copy, field)) then
                redis.call('UNLINK', copy)
                return 0
            end
            replaced[field] = parse_checkpoint(record).run or false
        end
    end
end

-- Redis does not take back what a script has done before it fails, so whatever may be damaged is read before the first
-- change: here, the records and the questions of both.
local records = {}
for _, field in ipairs(redis.call('HKEYS', copy)) do
    if kind_of(field) == 'c' then records[#records + 1] = field end
end
-- Checkpoints that the thread had may belong to other runs now. What other checkpoints still need is added again below.
local added, gone = {}, {}
each_field(copy, records, function(field, record)
    if is_visible(record) then
        local ns, id = string.match(field, '^c([^%z]*)%z(.*)$')
        local run, old = parse_checkpoint(record).run, replaced[field]
        added[#added + 1], added[#added + 2] = 0, checkpoint_entry(thread, id, ns)
        added[#added + 1], added[#added + 2] = 0, order_entry(thread, id, ns, run)
        if run then added[#added + 1], added[#added + 2] = 0, run_entry(thread, run) end
        if old ~= nil and old ~= (run or false) then
            gone[#gone + 1] = order_entry(thread, id, ns, old)
            if old then gone[#gone + 1] = run_entry(thread, old) end
        end
    end
end)
local latest = redis.call('HGET', copy, 's')
local function waiting_in(key)
    return latest and waiting_on(key, latest, redis.call('HGET', key, 'w\0' .. latest)) or ''
end
waiting_in(copy)
waiting_in(hash)

if not meta and not staged then
    redis.call('RENAME', copy, hash)
else
    -- The thread keeps its own writes, and gets those that only the copy has.
    local stored = {}
    each_field(copy, redis.call('HKEYS', copy), function(field, value)
        local kind = kind_of(field)
        if kind == 'p' and redis.call('HEXISTS', hash, field) == 1 then return end
        if kind == 'w' then
            local mine = redis.call('HGET', hash, field) or ''
            local is_mine, more = {}, {}
            each_pair(mine, function(task, idx) is_mine[task .. '\0' .. idx] = true end)
            each_pair(value, function(task, idx)
                if not is_mine[task .. '\0' .. idx] then more[#more + 1] = task .. '\0' .. idx .. '\0' end
            end)
            value = mine .. table.concat(more)
        end
        stored[#stored + 1], stored[#stored + 2] = field, value
    end)
    call_in_batches('HSET', hash, stored)
    if staged then claim_staged(hash, index, thread, staged, '', stored) end
    redis.call('UNLINK', copy)
end

call_in_batches('ZREM', index, gone)
local updated = updated_of(source_meta)
if meta then updated = later(updated_of(meta), updated) end
set_meta(hash, index, thread, meta, meta_of(created_of(source_meta), updated, NEVER, waiting_in(hash)), ttl, now, added)
sweep_expired(index, now)
return 1
