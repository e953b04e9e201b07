-- uses: bytes index records thread
-- KEYS: thread, index
-- ARGV: thread, ns, checkpoint, record, written_at, ttl, 1 if it needs its parent, joined ids of chunks that must be
--       stored, joined ids of chunks staged for this put, number of value and chunk arguments;
--       then value field and value …, chunk field and entry …, unchanged field …
-- Returns nothing, or what is missing: joined chunk ids, positions of unchanged fields, 1 if the parent is missing
local hash, index = KEYS[1], KEYS[2]
local thread, ns, checkpoint, record, written_at, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local needs_parent, needed, own = ARGV[7] == '1', ARGV[8], ARGV[9]
local chunks_begin = 11
local chunks_end = chunks_begin - 1 + tonumber(ARGV[10])
local place = ns .. '\0' .. checkpoint

local now = now_ms()
sweep_staged(index, now)
local found = redis.call('HMGET', hash, 'm', 'q', 's' .. ns, 'c' .. place, 'w' .. place)
local meta, staged, latest, replaced, listed = found[1], found[2], found[3], found[4], found[5]
local problem = why_unknown(index, thread, meta)
if problem then return problem end

local new = parse_checkpoint(record)
local absent, versions, no_parent = missing_chunks(hash, needed, own, staged), {}, 0
for at = chunks_end + 1, #ARGV do
    if redis.call('HEXISTS', hash, ARGV[at]) == 0 then versions[#versions + 1] = at - chunks_end end
end
if needs_parent and new.parent then
    local parent = redis.call('HGET', hash, 'c' .. ns .. '\0' .. new.parent)
    if not parent then
        no_parent = 1
    elseif not is_visible(parent) then
        local kept = {}
        each_name(parse_checkpoint(parent).open, function(name) kept[name] = true end)
        each_name(new.open, function(name) if not kept[name] then no_parent = 1 end end)
    end
end
if absent ~= '' or #versions > 0 or no_parent == 1 then return {absent, versions, no_parent} end

-- Redis does not take back what a script has done before it fails, so whatever may be damaged is read before the first
-- change: here, the record that is replaced and the questions that came before their checkpoint.
local old = is_visible(replaced) and parse_checkpoint(replaced)
local is_latest = not latest or not is_above(latest, checkpoint)
local created, updated, waiting = written_at ~= NEVER and written_at or AT_ZERO, written_at, ''
if meta then
    if created_of(meta) ~= NEVER then created = created_of(meta) end
    updated, waiting = later(updated_of(meta), written_at), waiting_of(meta)
end
if ns == '' and is_latest then waiting = waiting_on(hash, checkpoint, listed) end

local stored = {'c' .. place, record}
if is_latest then stored[3], stored[4] = 's' .. ns, checkpoint end
for at = chunks_begin, chunks_end do stored[#stored + 1] = ARGV[at] end
call_in_batches('HSET', hash, stored)
if staged then claim_staged(hash, index, thread, staged, own, stored) end

local added = {
    0, checkpoint_entry(thread, checkpoint, ns),
    0, order_entry(thread, checkpoint, ns, new.run),
}
if new.run then added[5], added[6] = 0, run_entry(thread, new.run) end
if old and old.run ~= new.run then
    redis.call('ZREM', index, order_entry(thread, checkpoint, ns, old.run))
    local others = redis.call('ZRANGEBYLEX', index, '[o' .. thread .. '\0', '(o' .. thread .. '\1')
    local is_used = not old.run
    for _, member in ipairs(others) do
        local _, _, _, run = parse_order(member)
        is_used = is_used or run == old.run
    end
    if not is_used then redis.call('ZREM', index, run_entry(thread, old.run)) end
end
set_meta(hash, index, thread, meta, meta_of(created, updated, NEVER, waiting), ttl, now, added)
sweep_expired(index, now)
return false
