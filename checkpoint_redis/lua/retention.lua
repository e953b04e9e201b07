-- What is kept when checkpoints are removed: the rules of `checkpoint_base.retention`.

local function versions_of(record)
    local versions = {}
    each_pair(record.channels, function(channel, version) versions[channel] = version end)
    return versions
end

-- All of a thread. By namespace: its checkpoints by id, `channel NUL version` of its stored values, its lists of writes
-- by checkpoint id. Then the fields of its chunks, and those of its values and writes, which refer to chunks.
local function survey(hash)
    local spaces, chunks, holders = {}, {}, {}
    local function space(ns)
        spaces[ns] = spaces[ns] or {checkpoints = {}, stored = {}, writes = {}}
        return spaces[ns]
    end
    local records, lists = {}, {}
    for _, field in ipairs(redis.call('HKEYS', hash)) do
        local kind = kind_of(field)
        if kind == '#' or kind == '+' then
            chunks[#chunks + 1] = field
        elseif kind == 'c' then
            records[#records + 1] = field
        elseif kind == 'w' then
            lists[#lists + 1] = field
        elseif kind == 'p' then
            holders[#holders + 1] = field
        elseif kind == 'v' then
            holders[#holders + 1] = field
            local ns, version = string.match(field, '^v([^%z]*)%z(.*)$')
            space(ns).stored[version] = true
        end
    end
    each_field(hash, records, function(field, record)
        local ns, id = string.match(field, '^c([^%z]*)%z(.*)$')
        space(ns).checkpoints[id] = parse_checkpoint(record)
    end)
    each_field(hash, lists, function(field, listed)
        local ns, id = string.match(field, '^w([^%z]*)%z(.*)$')
        space(ns).writes[id] = listed
    end)
    return spaces, chunks, holders
end

-- The ancestors that kept checkpoints need to rebuild channels, each with those channels. Marks the values that the
-- rebuilding starts from as referenced.
local function needed_ancestors(space, kept, referenced)
    local ever_open, needed = {}, {}
    for _, one in pairs(space.checkpoints) do
        each_name(one.open, function(name) ever_open[name] = true end)
    end
    if not next(ever_open) then return needed end
    for id in pairs(kept) do
        local missing = {}
        each_pair(space.checkpoints[id].channels, function(channel, version)
            if ever_open[channel] and not space.stored[channel .. '\0' .. version] then missing[channel] = true end
        end)
        local parent = space.checkpoints[id].parent
        while parent and next(missing) and space.checkpoints[parent] do
            needed[parent] = needed[parent] or {}
            local ancestor, found = space.checkpoints[parent], {}
            local versions = versions_of(ancestor)
            for channel in pairs(missing) do
                local version = versions[channel]
                if needed[parent][channel] then
                    found[channel] = true -- another kept checkpoint has walked on from here, or this one, in a ring
                elseif version and space.stored[channel .. '\0' .. version] then
                    referenced[channel .. '\0' .. version] = true
                    found[channel] = true
                end
                needed[parent][channel] = true
            end
            for channel in pairs(found) do missing[channel] = nil end
            parent = ancestor.parent
        end
    end
    return needed
end

-- Adds the fields of a checkpoint's writes to `gone`, except of writes to the `channels` if given. Returns the list of
-- those that are left. What goes with all others is not read, so it may be damaged.
local function writes_left(hash, ns, id, listed, channels, gone)
    local fields, left = write_fields(ns, id, listed), {}
    if not channels then
        for _, field in ipairs(fields) do gone[#gone + 1] = field end
        return ''
    end
    each_field(hash, fields, function(field, body)
        local write = body and parse_write(body)
        if write and channels[write.channel] then
            left[#left + 1] = write.task .. '\0' .. write.idx .. '\0'
        else
            gone[#gone + 1] = field
        end
    end)
    return table.concat(left)
end

-- Adds the fields of chunks to `gone` that are not staged and that no value and no write refers to, other than those
-- that are in `gone` themselves.
local function add_unused_chunks(hash, chunks, holders, gone)
    local wanted, reached = {}, {}
    local function want(refs)
        each_id(refs, function(id)
            if not reached[id] then
                reached[id] = true
                wanted[#wanted + 1] = '#' .. id
            end
        end)
    end
    local goes, staying = {}, {}
    for _, field in ipairs(gone) do goes[field] = true end
    for _, field in ipairs(holders) do
        if not goes[field] then staying[#staying + 1] = field end
    end
    each_field(hash, staying, function(field, body)
        want(kind_of(field) == 'v' and refs_of_value(body) or parse_write(body).refs)
    end)
    local staged = redis.call('HGET', hash, 'q')
    if staged then want(staged_ids(staged)) end
    local at = 1
    while wanted[at] do
        -- A node has at most 64 ids. Nearly all leaves are longer, and are not read.
        local size = redis.call('HSTRLEN', hash, wanted[at])
        if size % 16 == 1 and size <= 1025 then
            local entry = redis.call('HGET', hash, wanted[at])
            if is_node(entry) then want(children_of(entry)) end
        end
        at = at + 1
    end
    for _, field in ipairs(chunks) do
        if not reached[string.sub(field, 2)] then gone[#gone + 1] = field end
    end
end

-- The greatest of some ids, as a set.
local function greatest(ids, count)
    if count == 1 or count >= #ids then -- sorting would take half as long as everything else
        for at = 2, #ids do
            if is_above(ids[at], ids[1]) then ids[1], ids[at] = ids[at], ids[1] end
        end
    else
        table.sort(ids, is_above)
    end
    local set = {}
    for at = 1, math.min(count, #ids) do set[ids[at]] = true end
    return set
end

local function visible_in(space)
    local visible = {}
    for id, one in pairs(space.checkpoints) do
        if one.is_visible then visible[id] = one end
    end
    return visible
end

local function ids_of(checkpoints)
    local ids = {}
    for id in pairs(checkpoints) do ids[#ids + 1] = id end
    return ids
end

-- At which checkpoint the call began whose namespace has these visible checkpoints, if it is a call's.
local function caller_of(visible)
    local newest, caller
    for id, one in pairs(visible) do
        if one.caller and (not newest or is_above(id, newest)) then newest, caller = id, one.caller end
    end
    return caller
end

-- The ids of checkpoints that go, and with them the calls that began there: all but the latest of what outlives a call.
local function going_with_calls(spaces, count)
    local kept, going = {}, {}
    for _, space in pairs(spaces) do
        local visible = visible_in(space)
        if not caller_of(visible) then
            for id in pairs(greatest(ids_of(visible), count)) do kept[id] = true end
        end
    end
    for _, space in pairs(spaces) do
        for id in pairs(space.checkpoints) do
            if not kept[id] then going[id] = true end
        end
    end
    return going
end

-- Two ways to choose which of a namespace's visible checkpoints stay, given by id, of all `spaces` of the thread: a set
-- of their ids.

local function the_latest(count)
    local going
    return function(visible, spaces)
        going = going or going_with_calls(spaces, count)
        local caller = caller_of(visible)
        return caller and going[caller] and {} or greatest(ids_of(visible), count)
    end
end

local function all_but_runs(runs)
    return function(visible)
        local kept = {}
        for id, one in pairs(visible) do
            if not (one.run and runs[one.run]) then kept[id] = true end
        end
        return kept
    end
end

-- Keeps only some of a thread's visible checkpoints, those that `choose` chooses in each namespace. Redis does not take
-- back what a script has done before it fails, so everything is read first: what is damaged leaves nothing half done.
local function retain(hash, index, thread, meta, choose)
    local staged = redis.call('HGET', hash, 'q')
    if staged and deadline_of(staged) < digits(now_ms()) then drop_staged(hash, index, thread, staged) end
    local spaces, chunks, holders = survey(hash)
    local gone, stored, old_entries = {}, {}, {}
    local runs_before, runs_left, any_visible, any_writes, latest_of_root = {}, {}, false, false, nil
    local function store(field, value) stored[#stored + 1], stored[#stored + 2] = field, value end

    for ns, space in pairs(spaces) do
        local kept, latest = choose(visible_in(space), spaces), nil
        local referenced = {}
        for id in pairs(kept) do
            if not latest or is_above(id, latest) then latest = id end
            each_pair(space.checkpoints[id].channels, function(channel, version)
                referenced[channel .. '\0' .. version] = true
            end)
        end
        local needed = needed_ancestors(space, kept, referenced)
        for id, one in pairs(space.checkpoints) do
            local place = ns .. '\0' .. id
            if one.is_visible and one.run then (kept[id] and runs_left or runs_before)[one.run] = true end
            if not kept[id] then
                if one.is_visible then
                    old_entries[#old_entries + 1] = checkpoint_entry(thread, id, ns)
                    old_entries[#old_entries + 1] = order_entry(thread, id, ns, one.run)
                end
                local channels = needed[id]
                if channels then
                    local names = {}
                    for name in pairs(channels) do names[#names + 1] = name .. '\0' end
                    store('c' .. place, retired(one, table.concat(names)))
                else
                    gone[#gone + 1] = 'c' .. place
                end
                local listed = space.writes[id]
                local left = writes_left(hash, ns, id, listed, channels, gone)
                if left == '' then
                    gone[#gone + 1] = 'w' .. place
                else
                    any_writes = true
                    if left ~= listed then store('w' .. place, left) end
                end
                space.writes[id] = nil
            end
        end
        if next(space.writes) then any_writes = true end
        for version in pairs(space.stored) do
            if not referenced[version] then gone[#gone + 1] = 'v' .. ns .. '\0' .. version end
        end
        if latest then
            any_visible = true
            store('s' .. ns, latest)
            if ns == '' then latest_of_root = latest end
        else
            gone[#gone + 1] = 's' .. ns
        end
    end
    if not any_visible and not any_writes then
        redis.call('UNLINK', hash)
        forget(index, thread, meta, math.huge)
        return
    end
    add_unused_chunks(hash, chunks, holders, gone)
    for run in pairs(runs_before) do
        if not runs_left[run] then old_entries[#old_entries + 1] = run_entry(thread, run) end
    end
    local listed = latest_of_root and redis.call('HGET', hash, 'w\0' .. latest_of_root)
    local created = any_visible and created_of(meta) or NEVER
    local new = meta_of(created, updated_of(meta), expires_of(meta), waiting_on(hash, latest_of_root, listed))

    redis.call('HDEL', hash, '') -- a full server lets a script store only once it has removed something
    call_in_batches('HDEL', hash, gone)
    if new ~= meta then store('m', new) end
    call_in_batches('HSET', hash, stored)
    call_in_batches('ZREM', index, old_entries)
    replace_entries(index, thread, meta, new, {})
end
