-- A thread is one hash, so it expires, or is evicted, as a whole. Its fields:
--
--   m                           meta (index.lua); there from the first checkpoint or write on
--   q                           staged chunks: their deadline, then who has staged which (index.lua)
--   s ns                        the greatest visible checkpoint of a namespace
--   c ns NUL checkpoint         checkpoint
--   v ns NUL channel NUL version  value
--   w ns NUL checkpoint         list of its writes: `task NUL idx NUL …`
--   p ns NUL checkpoint NUL task NUL idx  write
--   # id                        chunk's entry: l and a leaf, n and a node, or L and the length of a large leaf
--   + id                        the body of a large leaf

-- Stores a new meta and updates the index to it and with `more` entries. Whatever `new` says, the thread expires `ttl`
-- milliseconds from now, or never if that is 0.
local function set_meta(hash, index, thread, old, new, ttl, now, more)
    local expires = ttl > 0 and digits(now + ttl) or NEVER
    new = meta_of(created_of(new), updated_of(new), expires, waiting_of(new))
    if old ~= new then redis.call('HSET', hash, 'm', new) end
    -- Last, because this removes the thread if that time has come: what is stored afterwards would stay alone.
    if ttl > 0 then
        redis.call('PEXPIREAT', hash, string.format('%.0f', now + ttl))
    elseif not old or expires_of(old) ~= NEVER then
        redis.call('PERSIST', hash)
    end
    replace_entries(index, thread, old, new, more)
end

-- A reader can put off a thread's expiry. It never brings it forward, and never gives one to a thread without.
local function refresh(hash, index, thread, meta, ttl)
    local expires = tonumber(expires_of(meta))
    if ttl == 0 or expires == 0 or why_unknown(index, thread, meta) then return end
    local now = now_ms()
    if now + ttl > expires then set_meta(hash, index, thread, meta, meta, ttl, now, {}) end
end

-- Why a checkpoint is not visible: it never was there, was deleted or is retired (nil), or else it is still listed
-- somewhere (an error).
local function why_invisible(index, thread, ns, checkpoint, latest)
    local is_known = checkpoint == latest or redis.call('ZSCORE', index, checkpoint_entry(thread, checkpoint, ns))
    return is_known and damaged(thread) or nil
end

local function later(one, other) return is_above(one, other) and one or other end

-- The joined ids of missing chunks. Of those `needed`: what is not stored, or only staged by another writer, which may
-- have died before it staged the chunks below. Of its `own`, staged for this request: what has been dropped since.
local function missing_chunks(hash, needed, own, staged)
    local missing, is_staged = {}, {}
    if staged then each_id(staged_ids(staged), function(id) is_staged[id] = true end) end
    local function look(id)
        if redis.call('HEXISTS', hash, '#' .. id) == 0 then missing[#missing + 1] = id end
    end
    each_id(needed, function(id)
        if is_staged[id] then missing[#missing + 1] = id else look(id) end
    end)
    each_id(own, look)
    return table.concat(missing)
end

-- Takes chunks that a stored value now refers to off the staged list: its `own`, and those among the `stored` fields,
-- `field, value, …`.
local function claim_staged(hash, index, thread, staged, own, stored)
    local claimed = {}
    each_id(own, function(id) claimed[id] = true end)
    for at = 1, #stored, 2 do
        if kind_of(stored[at]) == '#' then claimed[string.sub(stored[at], 2)] = true end
    end
    local left = staged_left(staged, function(id) return not claimed[id] end)
    local entry = staged_entry(thread, deadline_of(staged))
    if left ~= '' then
        redis.call('HSET', hash, 'q', deadline_of(staged) .. left)
        -- New if the hash held only staged chunks: until now, the hash itself expired at their deadline.
        redis.call('ZADD', index, 0, entry)
    else
        redis.call('HDEL', hash, 'q')
        redis.call('ZREM', index, entry)
    end
end
