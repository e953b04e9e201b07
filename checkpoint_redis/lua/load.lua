-- uses: bytes index records thread contents
-- KEYS: thread, index
-- ARGV: thread, ns, checkpoint or nothing for the latest, ttl to refresh with or 0, bytes to reply with
-- Returns nothing, or: checkpoint id, record, values, writes, chunks, joined ids of further chunks
local hash, index = KEYS[1], KEYS[2]
local thread, ns, checkpoint = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('HMGET', hash, 'm', 's' .. ns)
if not found[1] then return why_absent(index, thread) end
if checkpoint == '' then checkpoint = found[2] end
if not checkpoint then return false end
local place = ns .. '\0' .. checkpoint
local stored = redis.call('HMGET', hash, 'c' .. place, 'w' .. place)
if not is_visible(stored[1]) then return why_invisible(index, thread, ns, checkpoint, found[2]) end
refresh(hash, index, thread, found[1], tonumber(ARGV[4]))
local wanted, seen, chunks, rest, budget = {}, {}, {}, {}, {left = tonumber(ARGV[5])}
local values, writes = values_and_writes(
    hash, ns, checkpoint, parse_checkpoint(stored[1]).channels, stored[2], wanted, seen, budget)
walk(hash, wanted, seen, budget, chunks, rest)
return {checkpoint, stored[1], values, writes, chunks, table.concat(rest)}
