-- uses: bytes index records retention
-- KEYS: index
-- ARGV: runs …
local index = KEYS[1]
if not is_intact(index) then return lost_index(index) end
local runs, threads = {}, {}
for _, run in ipairs(ARGV) do
    runs[run] = true
    for _, member in ipairs(redis.call('ZRANGEBYLEX', index, '[r' .. run .. '\0', '(r' .. run .. '\1')) do
        threads[string.sub(member, #run + 3)] = true
    end
end
-- Look at all threads before changing any: an error must come before the first change.
local metas = {}
for thread in pairs(threads) do
    metas[thread] = redis.call('HGET', thread_key(index, thread), 'm') or nil
    local problem = why_unknown(index, thread, metas[thread])
    if problem then return problem end
end
local damage
for thread, meta in pairs(metas) do
    local is_sound, problem = pcall(retain, thread_key(index, thread), index, thread, meta, all_but_runs(runs))
    if not is_sound then damage = unreadable(thread, problem) end
end
sweep(index, now_ms())
return damage or false
