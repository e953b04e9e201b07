-- KEYS: layout, or an index
-- ARGV: layout or index
-- Returns what set-up has stored there: the layout, or the score of an index's empty member. Nothing if it has not.
-- Apart from setup.lua, because this stores nothing: whoever finds everything there waits for no replica.
if ARGV[1] == 'layout' then return redis.call('GET', KEYS[1]) end
return redis.call('ZSCORE', KEYS[1], '')
