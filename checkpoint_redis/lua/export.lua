-- uses: bytes index
-- KEYS: thread, index
-- ARGV: thread
-- Returns nothing, or all of a thread except its chunks' entries and what is staged: meta, {field, value, …}, {chunk
--         field, …}
local meta = redis.call('HGET', KEYS[1], 'm')
if not meta then return why_absent(KEYS[2], ARGV[1]) end
-- A thread whose index was evicted is whole itself, and copying saves it.
local problem = is_intact(KEYS[2]) and why_unknown(KEYS[2], ARGV[1], meta)
if problem then return problem end
local staged, is_staged = redis.call('HGET', KEYS[1], 'q'), {}
if staged then each_id(staged_ids(staged), function(id) is_staged['#' .. id] = true end) end
local fields, chunks, flat = {}, {}, {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local kind = kind_of(field)
    if kind == '#' then
        if not is_staged[field] then chunks[#chunks + 1] = field end
    elseif kind ~= '+' and field ~= 'm' and field ~= 'q' then
        fields[#fields + 1] = field
    end
end
each_field(KEYS[1], fields, function(field, value)
    flat[#flat + 1] = field
    flat[#flat + 1] = value
end)
return {meta, flat, chunks}
