-- uses: bytes index records thread contents
-- KEYS: thread, index
-- ARGV: thread, ns, checkpoint or nothing for the latest, ttl to refresh with or 0, bytes to reply with; channel …
-- Returns nothing, or: {{write, …}, …} for the ancestors, nearest first; {channel, value, …}; chunks; joined ids
--         of further chunks
local hash, index = KEYS[1], KEYS[2]
local thread, ns, checkpoint = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('HMGET', hash, 'm', 's' .. ns)
if not found[1] then return why_absent(index, thread) end
if checkpoint == '' then checkpoint = found[2] end
local record = checkpoint and redis.call('HGET', hash, 'c' .. ns .. '\0' .. checkpoint)
if not record then return checkpoint and why_invisible(index, thread, ns, checkpoint, found[2]) end
refresh(hash, index, thread, found[1], tonumber(ARGV[4]))

local open, left = {}, 0
for at = 6, #ARGV do
    if not open[ARGV[at]] then open[ARGV[at]], left = true, left + 1 end
end
local wanted, seen, chunks, rest, budget = {}, {}, {}, {}, {left = tonumber(ARGV[5])}
local generations, seeds, passed = {}, {}, {[checkpoint] = true}
local ancestor = parse_checkpoint(record).parent
while ancestor and left > 0 and not passed[ancestor] do
    passed[ancestor] = true
    local place = ns .. '\0' .. ancestor
    local stored = redis.call('HMGET', hash, 'c' .. place, 'w' .. place)
    if not stored[1] then break end
    local writes = {}
    each_field(hash, write_fields(ns, ancestor, stored[2]), function(_, body)
        if not body then error('a write is gone') end
        local write = parse_write(body)
        if open[write.channel] then
            writes[#writes + 1] = body
            budget.left = budget.left - #body
            add_refs(write.refs, wanted, seen)
        end
    end)
    generations[#generations + 1] = writes
    local parsed = parse_checkpoint(stored[1])
    each_pair(parsed.channels, function(channel, version)
        if not open[channel] then return end
        local value = redis.call('HGET', hash, 'v' .. ns .. '\0' .. channel .. '\0' .. version)
        if value then
            seeds[#seeds + 1] = channel
            seeds[#seeds + 1] = value
            add_refs(refs_of_value(value), wanted, seen)
            open[channel], left = nil, left - 1
        end
    end)
    ancestor = parsed.parent
end
walk(hash, wanted, seen, budget, chunks, rest)
return {generations, seeds, chunks, table.concat(rest)}
