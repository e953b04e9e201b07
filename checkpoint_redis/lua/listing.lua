-- What a listing adds to its reply, whose first item says where the next one goes on: false at the end.

-- Calls `add(member)` for each member, which adds what it stands for to the reply, or returns an error. Returns what the
-- script is to return if it ends here: that error, or the reply if it holds `limit` items or its budget is used up.
local function add_all(members, reply, limit, budget, add)
    for _, member in ipairs(members) do
        local problem = add(member)
        if problem then return problem end
        if #reply > limit or budget.left <= 0 then
            reply[1] = '(' .. member
            return reply
        end
    end
    return nil
end

-- The same for what the index has between two bounds, of which it looks at `looks` members at most. Always returns what
-- the script is to return.
local function add_range(index, command, from, to, looks, reply, limit, budget, add)
    while true do
        local size = math.min(looks, 100)
        local members = redis.call(command, index, from, to, 'LIMIT', 0, size)
        local ended = add_all(members, reply, limit, budget, add)
        if ended then return ended end
        if #members < size then return reply end
        from, looks = '(' .. members[size], looks - size
        if looks <= 0 then
            reply[1] = from
            return reply
        end
    end
end
