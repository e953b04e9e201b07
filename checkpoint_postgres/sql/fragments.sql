-- Parts of several statements, which name them in braces:
-- {matches}: of a thread that has the terms on any checkpoint at all.
-- {checkpoints_of_page}: the checkpoints of a page, whose rows are numbered from 1; the first has the contents of all.

-- name: matches
IN (SELECT thread_id FROM {schema}.checkpoints WHERE terms OPERATOR(pg_catalog.@>) %(terms)b::bigint[])

-- name: checkpoints_of_page
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels,
       versions, open_channels, terms, run_id, caller_id, written_at, contents.*
FROM page JOIN {schema}.checkpoints USING (thread_id, ns, checkpoint_id)
LEFT JOIN {schema}.contents((SELECT pg_catalog.array_agg(thread_id ORDER BY n) FROM page WHERE %(contents)b),
                            (SELECT pg_catalog.array_agg(ns ORDER BY n) FROM page WHERE %(contents)b),
                            (SELECT pg_catalog.array_agg(checkpoint_id ORDER BY n) FROM page WHERE %(contents)b))
    AS contents ON n = 1
ORDER BY n
