-- Parts of several statements, which name them in braces:
-- {matches}: of a thread that has the terms on any checkpoint at all.
-- {checkpoints_of_page}: the checkpoints of a page, whose rows are numbered from 1; the first has the contents of all.
-- {questions_of_page}: the tasks of a page, each with the checkpoint it waits on, its question, and the chunks of that.

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

-- name: questions_of_page
SELECT page.thread_id, newest.checkpoint_ns, newest.checkpoint_id, parent_id, header, channels, versions, open_channels,
       terms, run_id, caller_id, newest.written_at,
       asked.task_id, idx, channel, task_path, asked.questions, settles, page.written_at, root, refs, below.*
FROM page
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.checkpoints
    WHERE checkpoints.thread_id = page.thread_id AND ns = '' AND checkpoint_id = latest OFFSET 0) AS newest
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.writes
    WHERE writes.thread_id = page.thread_id AND ns = '' AND checkpoint_id = latest AND writes.task_id = page.task_id
      AND questions > 0 OFFSET 0) AS asked
CROSS JOIN LATERAL {schema}.chunks_below(ARRAY[page.thread_id], ARRAY[refs]) AS below
