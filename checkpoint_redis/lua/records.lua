-- Records as `checkpoint_redis.format` writes them. A checkpoint begins with v (visible) or x (retired): letters that
-- differ in more than one bit.
--
--   checkpoint   parent, run (after a +, or empty for none), caller (or empty), channels, open channels, terms,
--                what only Python reads
--   value        root, refs
--   write        questions, settles, written_at, idx, task, channel, path, root, refs
--
-- channels is `channel NUL version NUL …`, open channels is `channel NUL …`. A part of variable length follows its
-- length, except the last one of a record.

local function is_visible(record)
    local kind = record and kind_of(record)
    if record and kind ~= 'v' and kind ~= 'x' then error('the record of a checkpoint is damaged') end
    return kind == 'v'
end

local function parse_checkpoint(record)
    local parent, run, caller, channels, open, terms = struct.unpack('>I4c0I4c0I4c0I4c0I4c0I4c0', record, 2)
    return {
        parent = parent ~= '' and parent or nil,
        run = run ~= '' and string.sub(run, 2) or nil,
        caller = caller ~= '' and caller or nil,
        channels = channels,
        open = open,
        terms = terms,
        is_visible = is_visible(record),
    }
end

-- The record of a checkpoint once it is retired: what rebuilding the `open` channels takes, and nothing else.
local function retired(checkpoint, open)
    local parent, channels = checkpoint.parent or '', checkpoint.channels
    return 'x' .. struct.pack(
        '>I4c0I4c0I4c0I4c0I4c0I4c0', #parent, parent, 0, '', 0, '', #channels, channels, #open, open, 0, '')
end

-- Calls `act(channel, version)` for each of a checkpoint's channels, or `act(task, idx)` for each of a list of writes.
local function each_pair(joined, act)
    for one, other in string.gmatch(joined, '([^%z]*)%z([^%z]*)%z') do act(one, other) end
end

local function each_name(names, act)
    for name in string.gmatch(names, '([^%z]*)%z') do act(name) end
end

-- Whether a chunk's entry holds a node.
local function is_node(entry) return kind_of(entry) == 'n' end

local function children_of(node) return string.sub(node, 2) end

local function refs_of_value(value)
    local _, at = struct.unpack('>I4c0', value)
    return string.sub(value, at)
end

local function parse_write(write)
    local questions, settles, written, idx, task, channel, _, _, at =
        struct.unpack('>I4Bc8i4I4c0I4c0I4c0I4c0', write)
    return {
        questions = questions, settles = settles == 1, written = written, idx = idx, task = task, channel = channel,
        refs = string.sub(write, at),
    }
end

-- The fields of a checkpoint's writes, from `listed`, its field w. The list is never empty and names nothing twice.
local function write_fields(ns, checkpoint, listed)
    local fields, place, read, seen, is_sound = {}, 'p' .. ns .. '\0' .. checkpoint .. '\0', 0, {}, listed ~= ''
    each_pair(listed or '', function(task, idx)
        local field = place .. task .. '\0' .. idx
        fields[#fields + 1] = field
        read = read + #task + #idx + 2
        is_sound = is_sound and not seen[field]
        seen[field] = true
    end)
    if not is_sound or listed and read < #listed then error('the list of writes of a checkpoint is damaged') end
    return fields
end

-- Whether a checkpoint has all the wanted terms, which are 8 bytes each.
local function has_terms(terms, wanted)
    if wanted == '' then return true end
    local stored = {}
    for at = 1, #terms, 8 do stored[string.sub(terms, at, at + 7)] = true end
    for at = 1, #wanted, 8 do
        if not stored[string.sub(wanted, at, at + 7)] then return false end
    end
    return true
end

-- The tasks that wait on a checkpoint of the root namespace, in the form they have in meta; just those in `only`, a set
-- of tasks, if it is given. `brought` are writes by their fields that are about to be stored.
local function waiting_on(hash, checkpoint, listed, only, brought)
    if not checkpoint or not listed then return '' end
    local asked, settled, waiting = {}, {}, {}
    if only then
        local some = {}
        each_pair(listed, function(task, idx)
            if only[task] then some[#some + 1] = task .. '\0' .. idx .. '\0' end
        end)
        listed = table.concat(some)
    end
    each_field(hash, write_fields('', checkpoint, listed), function(field, body)
        body = brought and brought[field] or body
        local write = body and parse_write(body)
        if write and write.settles then settled[write.task] = true end
        if write and write.questions > 0 then asked[#asked + 1] = write end
    end)
    for _, write in ipairs(asked) do
        if not settled[write.task] then
            waiting[#waiting + 1] = digits_of(write.written) .. string.format(' %d,', write.questions)
                .. write.task .. '\0' .. write.idx .. '\0'
        end
    end
    return table.concat(waiting)
end
