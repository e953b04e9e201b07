-- What a field of a thread, a member of an index, a record or a chunk's entry is: its first byte says so.
local function kind_of(bytes) return string.sub(bytes, 1, 1) end

-- Lua compares strings by the server's locale. Ids compare by their bytes, which in UTF-8 means by code point.
local function is_above(one, other)
    local from = 1
    -- Ids of one thread mostly begin alike, and eight bytes are compared as quickly as one.
    while from <= #one and string.sub(one, from, from + 7) == string.sub(other, from, from + 7) do from = from + 8 end
    for at = from, math.min(#one, #other) do
        local a, b = string.byte(one, at), string.byte(other, at)
        if a ~= b then return a > b end
    end
    return #one > #other
end

-- Lua in Redis can unpack about 8000 values at once.
local BATCH = 2000

local function call_in_batches(command, key, arguments)
    for at = 1, #arguments, BATCH do
        redis.call(command, key, unpack(arguments, at, math.min(at + BATCH - 1, #arguments)))
    end
end

-- Calls `act(field, value)` for each field of a hash, with false for a missing one. Values are read in batches, because
-- there may be many fields and long values.
local function each_field(hash, fields, act)
    for at = 1, #fields, 64 do
        local last = math.min(at + 63, #fields)
        local found = redis.call('HMGET', hash, unpack(fields, at, last))
        for offset = 1, last - at + 1 do act(fields[at + offset - 1], found[offset]) end
    end
end

local function each_id(joined, act)
    for at = 1, #joined, 16 do act(string.sub(joined, at, at + 15)) end
end
