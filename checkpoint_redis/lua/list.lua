-- uses: bytes index records thread contents listing
-- KEYS: the thread if there is only one, index
-- ARGV: highest and lowest member as ZREVRANGEBYLEX takes them, 1 for one namespace only, that namespace, terms, 1 for
--       contents, most checkpoints to return, bytes of them to reply with, most members to look at, ttl to refresh with
--       or 0, bytes of chunks to reply with in addition
-- Returns where to go on, or nothing at the end; then for each checkpoint
--         thread, ns, id, record, values, writes, chunks, joined ids of further chunks
local index = KEYS[#KEYS]
local highest, lowest, one_ns, only_ns = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local terms, with_contents = ARGV[5], ARGV[6] == '1'
local limit, budget, looks, ttl = tonumber(ARGV[7]), {left = tonumber(ARGV[8])}, tonumber(ARGV[9]), tonumber(ARGV[10])
local chunk_budget = {left = tonumber(ARGV[11])}
if not is_intact(index) then return lost_index(index) end
sweep(index, now_ms())

local reply, seen_of, refreshed, spare = {false}, {}, {}, {left = FORGOTTEN_AT_ONCE}

-- Adds a checkpoint to the reply, if it has the terms and its thread has not expired. Returns an error if its thread is
-- damaged or lost.
local function add(thread, checkpoint, ns)
    local hash, place = thread_key(index, thread), ns .. '\0' .. checkpoint
    local stored = redis.call('HMGET', hash, 'c' .. place, 'w' .. place, 'm')
    if not stored[3] then return why_absent(index, thread, spare) end
    if not stored[1] then return damaged(thread) end
    if ttl > 0 and not refreshed[thread] then
        refreshed[thread] = true
        refresh(hash, index, thread, stored[3], ttl)
    end
    local parsed = parse_checkpoint(stored[1])
    if not has_terms(parsed.terms, terms) then return nil end
    local values, writes, chunks, rest = {}, {}, {}, {}
    budget.left = budget.left - #stored[1]
    if with_contents then
        local wanted = {}
        seen_of[thread] = seen_of[thread] or {}
        values, writes = values_and_writes(
            hash, ns, checkpoint, parsed.channels, stored[2], wanted, seen_of[thread], budget)
        walk(hash, wanted, seen_of[thread], chunk_budget, chunks, rest)
        budget.left = budget.left - 16 * #rest
    end
    reply[#reply + 1] = {thread, ns, checkpoint, stored[1], values, writes, chunks, table.concat(rest)}
    return nil
end

return add_range(index, 'ZREVRANGEBYLEX', highest, lowest, looks, reply, limit, budget, function(member)
    local thread, checkpoint, ns
    if kind_of(member) == 'o' then
        thread, checkpoint, ns = parse_order(member)
    else
        checkpoint, thread, ns = string.match(member, '^c([^%z]*)%z([^%z]*)%z(.*)$')
    end
    if one_ns and ns ~= only_ns then return nil end
    local is_sound, problem = pcall(add, thread, checkpoint, ns)
    if not is_sound then return unreadable(thread, problem) end
    return problem
end)
