-- uses: bytes index records thread contents listing
-- KEYS: the thread if there is only one, index
-- ARGV: t or w, the command that reads the index, its first and second bound, the only thread or nothing, terms, most
--       items to return, bytes to reply with, most members to look at
-- Returns where to go on, or nothing at the end; then for each item
--   of t, threads: thread, time, meta, id and record of the root namespace's latest checkpoint (nothing if there is none)
--   of w, questions: thread, id and record as above, member, write, chunks, joined ids of further chunks
-- What is damaged is returned as it is, and what is missing as an empty text: the caller lists it with an error, and it
-- hides no other thread. Of a lost thread, meta and id are what the index knows, and in place of the record is an error.
-- Only if the one thread is lost that is asked for, the script itself returns that error.
local index = KEYS[#KEYS]
local kind, command, from, to, only, terms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local limit, budget, looks = tonumber(ARGV[7]), {left = tonumber(ARGV[8])}, tonumber(ARGV[9])
if not is_intact(index) then return lost_index(index) end
sweep(index, now_ms())

local reply, spare, known = {false}, {left = FORGOTTEN_AT_ONCE}, {}

-- A thread's meta, and the id and record of its latest checkpoint; no meta if it has expired. They are read once for all
-- of its tasks that wait: there may be thousands, and meta names every one of them.
local function thread_of(thread)
    if not known[thread] then
        local hash = thread_key(index, thread)
        local stored = redis.call('HMGET', hash, 'm', 's')
        local meta, latest = stored[1], stored[2]
        if meta then
            known[thread] = {meta, latest, latest and (redis.call('HGET', hash, 'c\0' .. latest) or '')}
        else
            local problem = why_absent(index, thread, spare)
            known[thread] = problem and {indexed_meta(index, thread), indexed_latest(index, thread), problem} or {}
        end
    end
    return unpack(known[thread], 1, 3)
end

local function is_error(record) return type(record) == 'table' end

-- Whether a checkpoint has the wanted terms, or is damaged or lost.
local function may_have_terms(record)
    if not record then return terms == '' end
    local is_sound, parsed = pcall(parse_checkpoint, record)
    return not is_sound or has_terms(parsed.terms, terms)
end

-- Adds the item of an index entry to the reply, unless its thread has expired.
local function add(member)
    local rest = after_time(member)
    local thread, task, idx = rest, nil, nil
    if kind == 'w' then thread, task, idx = string.match(rest, '^([^%z]*)%z([^%z]*)%z(.*)$') end
    local meta, latest, record = thread_of(thread)
    if not meta or not may_have_terms(record) then return nil end
    budget.left = budget.left - (record and #record or 0)
    if kind == 't' then
        budget.left = budget.left - #meta
        reply[#reply + 1] = {thread, time_of(member), meta, latest, record}
        return nil
    end
    local hash = thread_key(index, thread)
    local write = latest and redis.call('HGET', hash, 'p\0' .. latest .. '\0' .. task .. '\0' .. idx) or ''
    local wanted, seen, chunks, rest_ids = {}, {}, {}, {}
    local is_sound, parsed = pcall(parse_write, write)
    if is_sound then add_refs(parsed.refs, wanted, seen) end
    budget.left = budget.left - #write
    walk(hash, wanted, seen, budget, chunks, rest_ids)
    reply[#reply + 1] = {thread, latest or '', record or '', member, write, chunks, table.concat(rest_ids)}
    return nil
end

-- The entries of one thread behind the first bound, in the order of the command.
local function own_entries(thread, meta)
    local function comes_before(one, other)
        if command == 'ZRANGEBYLEX' then one, other = other, one end
        return is_above(one, other)
    end
    local all, behind, times, first = {}, {}, {}, string.sub(from, 2)
    entries_of(thread, meta, all)
    for _, member in ipairs(all) do
        if kind_of(member) == kind and comes_before(first, member) then
            -- Those in hexadecimal are above all others, and are compared by their bytes.
            behind[#behind + 1], times[member] = member, tonumber(time_of(member)) or math.huge
        end
    end
    table.sort(behind, function(one, other)
        -- Times first: comparing bytes takes long.
        if times[one] ~= times[other] then return (times[one] < times[other]) == (command == 'ZRANGEBYLEX') end
        return comes_before(one, other)
    end)
    return behind
end

if only ~= '' then
    local meta, _, record = thread_of(only)
    if not meta then return reply end
    if is_error(record) then return record end
    return add_all(own_entries(only, meta), reply, limit, budget, add) or reply
end
return add_range(index, command, from, to, looks, reply, limit, budget, add)
