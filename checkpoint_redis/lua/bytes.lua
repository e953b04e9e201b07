-- Lua compares strings by the server's locale. Ids compare by their bytes, which is by code point in UTF-8.
local function is_above(one, other)
    for at = 1, math.min(#one, #other) do
        local a, b = string.byte(one, at), string.byte(other, at)
        if a ~= b then return a > b end
    end
    return #one > #other
end

-- Redis lets Lua unpack about 8000 values at once.
local BATCH = 2000

local function call_in_batches(command, key, arguments)
    for at = 1, #arguments, BATCH do
        redis.call(command, key, unpack(arguments, at, math.min(at + BATCH - 1, #arguments)))
    end
end

-- The values of hash fields, false where there is none, handed over one by one: fields may be many and values long.
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
