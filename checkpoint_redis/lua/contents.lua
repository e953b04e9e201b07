-- What a reader needs to rebuild values. A reply holds about `budget.left` bytes of chunks. The ids of further ones go
-- to `rest`, and the reader fetches those with other calls, so that no script takes long.

local function add_refs(refs, wanted, seen)
    each_id(refs, function(id)
        if not seen[id] then
            seen[id] = true
            wanted[#wanted + 1] = id
        end
    end)
end

-- Collects the wanted chunks and those below them as `id, entry, …`; missing ones are left out.
local function walk(hash, wanted, seen, budget, reply, rest)
    local at = 1
    while at <= #wanted do
        if budget.left <= 0 then
            for left = at, #wanted do rest[#rest + 1] = wanted[left] end
            return
        end
        local last = math.min(at + 31, #wanted)
        local fields = {}
        for place = at, last do fields[#fields + 1] = '#' .. wanted[place] end
        local found = redis.call('HMGET', hash, unpack(fields))
        for offset = 1, last - at + 1 do
            local entry = found[offset]
            if entry then
                reply[#reply + 1] = wanted[at + offset - 1]
                reply[#reply + 1] = entry
                budget.left = budget.left - #entry
                if is_node(entry) then add_refs(children_of(entry), wanted, seen) end
            end
        end
        at = last + 1
    end
end

-- The values and writes of a checkpoint: `{value or false, …}` in the order of its channels, `{write or false, …}`.
local function values_and_writes(hash, ns, checkpoint, channels, listed, wanted, seen, budget)
    local fields, values = {}, {}
    each_pair(channels, function(channel, version)
        fields[#fields + 1] = 'v' .. ns .. '\0' .. channel .. '\0' .. version
    end)
    each_field(hash, fields, function(_, value)
        values[#values + 1] = value
        if value then
            budget.left = budget.left - #value
            add_refs(refs_of_value(value), wanted, seen)
        end
    end)
    local writes = {}
    each_field(hash, write_fields(ns, checkpoint, listed), function(_, write)
        writes[#writes + 1] = write
        if write then
            budget.left = budget.left - #write
            add_refs(parse_write(write).refs, wanted, seen)
        end
    end)
    return values, writes
end
