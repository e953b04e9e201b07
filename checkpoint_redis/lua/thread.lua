-- A thread is one hash, so that it expires, or is evicted, as a whole. Its fields:
--
--   m                           meta, see index.lua; there from the first checkpoint or write on
--   q                           staged chunks: the deadline, then their ids (stage.lua)
--   s ns                        the greatest visible checkpoint of a namespace
--   c ns NUL checkpoint         checkpoint
--   v ns NUL channel NUL version  value
--   w ns NUL checkpoint         which writes there are
--   p ns NUL checkpoint NUL task NUL idx  write
--   # id                        chunk: l and a leaf, n and a node, or L and the length of a large leaf, which is in
--   + id                        the body of a large leaf

-- Store a new meta and bring the index up to it, together with further entries; with a time to live of 0 for ever.
local function set_meta(hash, index, thread, old, new, ttl, now, more)
    local expires = ttl > 0 and digits(now + ttl) or NEVER
    new = string.sub(new, 1, 32) .. expires .. string.sub(new, 49)
    if ttl > 0 then
        redis.call('PEXPIREAT', hash, string.format('%.0f', now + ttl))
    elseif not old or string.sub(old, 33, 48) ~= NEVER then
        redis.call('PERSIST', hash)
    end
    if old ~= new then redis.call('HSET', hash, 'm', new) end
    replace_entries(index, thread, old, new, more)
end

-- A reader keeps a thread that expires alive; it never makes one expire, nor sooner.
local function refresh(hash, index, thread, meta, ttl)
    local expires = tonumber(string.sub(meta, 33, 48))
    if ttl == 0 or expires == 0 or why_unknown(index, thread, meta) then return end
    local now = now_ms()
    if now + ttl > expires then set_meta(hash, index, thread, meta, meta, ttl, now, {}) end
end

-- Why a checkpoint is not to be seen: an error if something still says that it is there; otherwise it never was, was
-- deleted, or is retired (nil).
local function why_invisible(index, thread, ns, checkpoint, latest)
    local is_known = checkpoint == latest or redis.call('ZSCORE', index, 'c' .. checkpoint .. '\0' .. thread .. '\0' .. ns)
    return is_known and damaged(thread) or nil
end

local function later(one, other) return tonumber(one) > tonumber(other) and one or other end

-- The ids that are missing, joined: of those `needed`, what is not stored or only staged, by a writer that may have died
-- before the chunks below were; of those staged for this request, what has been dropped since.
local function missing_chunks(hash, needed, own, staged)
    local missing, is_staged = {}, {}
    if staged then each_id(string.sub(staged, 17), function(id) is_staged[id] = true end) end
    local function look(id)
        if redis.call('HEXISTS', hash, '#' .. id) == 0 then missing[#missing + 1] = id end
    end
    each_id(needed, function(id)
        if is_staged[id] then missing[#missing + 1] = id else look(id) end
    end)
    each_id(own, look)
    return table.concat(missing)
end

-- Chunks that a stored value stands on are staged no longer.
local function claim_staged(hash, index, thread, staged, own, brought, first, last)
    local claimed, left = {}, {}
    each_id(own, function(id) claimed[id] = true end)
    for at = first, last, 2 do claimed[string.sub(brought[at], 2)] = true end
    each_id(string.sub(staged, 17), function(id)
        if not claimed[id] then left[#left + 1] = id end
    end)
    if #left > 0 then
        redis.call('HSET', hash, 'q', string.sub(staged, 1, 16) .. table.concat(left))
        -- A hash with nothing else in it had a deadline of its own, which it loses now.
        redis.call('ZADD', index, 0, 'q' .. string.sub(staged, 1, 16) .. '\0' .. thread)
    else
        redis.call('HDEL', hash, 'q')
        redis.call('ZREM', index, 'q' .. string.sub(staged, 1, 16) .. '\0' .. thread)
    end
end
