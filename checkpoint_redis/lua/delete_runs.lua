-- uses: bytes index records retention
-- KEYS: index
-- ARGV: most threads to remove from, number of the run to begin with, the thread of it to begin behind, or nothing for
--       all; runs …
-- Returns the number of the run to go on with, or nothing at the end; the thread of it to go on behind; nothing, or of the
-- first thread that is damaged or lost: its id, and an error. It stays as it is, and keeps no others from being done.
-- The same of the index.
local index, left, first, behind = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
if not is_intact(index) then return {false, '', {index, lost_index(index)}} end
sweep(index, now_ms())
local runs, count, damage = {}, #ARGV - 3, false
for at = 1, count do runs[ARGV[at + 3]] = true end

-- Removes the runs from a thread. Returns an error if it is damaged or lost.
local function remove_from(thread)
    local hash = thread_key(index, thread)
    local meta = redis.call('HGET', hash, 'm')
    local problem = why_unknown(index, thread, meta)
    if problem or not meta then return problem end
    local is_sound, failed = pcall(retain, hash, index, thread, meta, all_but_runs(runs))
    return not is_sound and unreadable(thread, failed) or nil
end

for at = first, count do
    local run = ARGV[at + 3]
    local found = redis.call(
        'ZRANGEBYLEX', index, '(r' .. run .. '\0' .. behind, '(r' .. run .. '\1', 'LIMIT', 0, left + 1)
    for _, member in ipairs(found) do
        if left == 0 then return {at, behind, damage} end
        behind, left = string.sub(member, #run + 3), left - 1
        local problem = remove_from(behind)
        if problem and not damage then damage = {behind, problem} end
    end
    behind = ''
end
return {false, '', damage}
