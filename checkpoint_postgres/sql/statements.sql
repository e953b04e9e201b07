-- Statements with named parameters are planned at each execution, for the values given: which index is best depends on
-- how common a term is, and conditions that the call does not use are dropped. Rows are sorted by their keys alone,
-- because headers are long. The contents of all checkpoints of a page come with its first row.
--
-- Waiting tasks and threads are read in their order, and the latest checkpoint of each is looked up (OFFSET 0). With a
-- plain join, the server would take the match of two columns for a rare coincidence, expect no rows, and read all
-- checkpoints for one page. That a thread has the terms on any checkpoint at all is a separate condition ({matches}): it
-- shows the server when the terms are rare enough to begin with them. Without terms it is left out, because a server that
-- has last counted its rows when there were few may read every checkpoint for each thread. A waiting task comes with the
-- checkpoint it waits on, its question, and the chunks of that. {way} and {beyond} are DESC and < where the newest come
-- first, ASC and > where the oldest do.

-- The version, and whether the schema was renamed: its functions still name the old one.
-- name: version
SELECT version, EXISTS (
    SELECT FROM pg_catalog.pg_proc JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pronamespace
    WHERE nspname = {name} AND proname = 'put_writes' AND pg_catalog.strpos(prosrc, {table}) = 0)
FROM {schema}.schema_version WHERE application = 'checkpoint-backends'

-- name: begin
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp

-- name: setup_lock
SELECT pg_advisory_xact_lock({lock}, -1)

-- name: upgrade_patience
-- Whoever changes a table waits until nobody reads it, a dump perhaps, and everybody else waits behind that. So it gives
-- up sooner than a writer does (9 seconds), and lets them by before it tries again.
SET LOCAL lock_timeout = '3s'

-- name: situation
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = {name}),
       EXISTS (SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
               WHERE nspname = {name} AND relname = 'schema_version')

-- name: create_schema
CREATE SCHEMA {schema}

-- name: create_version
CREATE TABLE {schema}.schema_version (
    application text PRIMARY KEY,
    version integer NOT NULL,
    migrated_at timestamptz NOT NULL DEFAULT now()
)

-- name: set_version
INSERT INTO {schema}.schema_version (application, version) VALUES ('checkpoint-backends', {version})
ON CONFLICT (application) DO UPDATE SET version = excluded.version, migrated_at = now()

-- name: grants
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};
REVOKE INSERT, UPDATE, DELETE ON {schema}.schema_version FROM {role}

-- name: put
SELECT * FROM {schema}.put(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)

-- name: put_writes
SELECT {schema}.put_writes(%b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b, %b)

-- name: load
SELECT * FROM {schema}.load(%b, %b, %b)

-- name: ancestry
SELECT * FROM {schema}.ancestry(%b, %b, %b, %b)

-- name: delete_threads
SELECT {schema}.delete_threads(%b)

-- name: delete_runs
SELECT {schema}.delete_runs(%b, %b)

-- name: threads_of_runs
SELECT DISTINCT thread_id
FROM pg_catalog.unnest(%b::text[]) AS wanted
CROSS JOIN LATERAL (
    SELECT thread_id FROM {schema}.checkpoints
    WHERE pg_catalog.hashtextextended(run_id, 0) = pg_catalog.hashtextextended(wanted COLLATE "C", 0)
      AND run_id = wanted AND NOT retired OFFSET 0) AS found
ORDER BY thread_id

-- name: copy_thread
SELECT {schema}.copy_thread(%b, %b)

-- name: prune
SELECT {schema}.prune(%b, %b::integer)

-- name: list_namespace
WITH page AS MATERIALIZED (
    SELECT thread_id, ns, checkpoint_id, row_number() OVER (ORDER BY checkpoint_id DESC) AS n
    FROM {schema}.checkpoints
    WHERE thread_id = %(thread_id)b AND ns = %(ns)b AND NOT retired
      AND (%(checkpoint_id)b::text IS NULL OR checkpoint_id = %(checkpoint_id)b)
      AND (%(before)b::text IS NULL OR checkpoint_id < %(before)b)
      AND (%(after_id)b::text IS NULL OR checkpoint_id < %(after_id)b)
      AND (pg_catalog.cardinality(%(terms)b::bigint[]) = 0 OR terms OPERATOR(pg_catalog.@>) %(terms)b::bigint[])
    ORDER BY checkpoint_id DESC LIMIT %(limit)b)
{checkpoints_of_page}

-- name: list_thread
WITH page AS MATERIALIZED (
    SELECT %(thread_id)b::text COLLATE "C" AS thread_id, ns, checkpoint_id, n
    FROM {schema}.page_of_thread(%(thread_id)b, %(before)b, %(after_id)b, %(after_ns)b, %(limit)b)
         WITH ORDINALITY AS found (ns, checkpoint_id, n))
{checkpoints_of_page}

-- name: list_thread_matching
WITH page AS MATERIALIZED (
    SELECT thread_id, ns, checkpoint_id, row_number() OVER () AS n FROM (
        SELECT thread_id, ns, checkpoint_id FROM {schema}.checkpoints
        WHERE thread_id = %(thread_id)b AND NOT retired
          AND (%(checkpoint_id)b::text IS NULL OR checkpoint_id = %(checkpoint_id)b)
          AND (%(before)b::text IS NULL OR checkpoint_id OPERATOR(pg_catalog.~<~) %(before)b)
          AND (%(after_id)b::text IS NULL
               OR (checkpoint_id OPERATOR(pg_catalog.~<=~) %(after_id)b
                   AND (checkpoint_id, checkpoint_ns) < (%(after_id)b, %(after_ns)b)))
          AND (pg_catalog.cardinality(%(terms)b::bigint[]) = 0 OR terms OPERATOR(pg_catalog.@>) %(terms)b::bigint[])
        ORDER BY checkpoint_id USING OPERATOR(pg_catalog.~>~), checkpoint_ns DESC LIMIT %(limit)b) AS sorted)
{checkpoints_of_page}

-- name: list_everything
WITH page AS MATERIALIZED (
    SELECT thread_id, ns, checkpoint_id, row_number() OVER () AS n FROM (
        SELECT thread_id, ns, checkpoint_id FROM {schema}.checkpoints
        WHERE NOT retired
          AND (%(before)b::text IS NULL OR checkpoint_id OPERATOR(pg_catalog.~<~) %(before)b)
          AND (%(after_id)b::text IS NULL
               OR (checkpoint_id OPERATOR(pg_catalog.~<=~) %(after_id)b
                   AND (checkpoint_id, thread_id, checkpoint_ns) < (%(after_id)b, %(after_thread)b, %(after_ns)b)))
          AND (pg_catalog.cardinality(%(terms)b::bigint[]) = 0 OR terms OPERATOR(pg_catalog.@>) %(terms)b::bigint[])
        ORDER BY checkpoint_id USING OPERATOR(pg_catalog.~>~), thread_id DESC, checkpoint_ns DESC LIMIT %(limit)b) AS sorted)
{checkpoints_of_page}

-- name: threads
SELECT known.thread_id, created_at, updated_at,
       (SELECT coalesce(sum(questions), 0) FROM {schema}.waiting WHERE waiting.thread_id = known.thread_id),
       checkpoint_ns, checkpoint_id, parent_id, header, channels, versions, open_channels, terms, run_id, caller_id, written_at
FROM {schema}.threads AS known
LEFT JOIN LATERAL (
    SELECT * FROM {schema}.checkpoints
    WHERE checkpoints.thread_id = known.thread_id AND ns = '' AND checkpoint_id = latest OFFSET 0) AS newest ON true
WHERE created_at IS NOT NULL AND (%(thread_id)b::text IS NULL OR known.thread_id = %(thread_id)b)
  AND (%(after_time)b::bigint IS NULL OR (updated_at, known.thread_id) {beyond} (%(after_time)b, %(after_thread)b))
  AND (pg_catalog.cardinality(%(terms)b::bigint[]) = 0 OR terms OPERATOR(pg_catalog.@>) %(terms)b::bigint[])
  AND known.thread_id {matches}
ORDER BY updated_at {way}, known.thread_id {way} LIMIT %(limit)b

-- name: interrupts
WITH page AS MATERIALIZED (
    SELECT waiting.thread_id, waiting.task_id, waiting.written_at, latest
    FROM {schema}.waiting
    CROSS JOIN LATERAL (
        SELECT latest FROM {schema}.threads WHERE threads.thread_id = waiting.thread_id OFFSET 0) AS known
    CROSS JOIN LATERAL (
        SELECT terms FROM {schema}.checkpoints
        WHERE checkpoints.thread_id = waiting.thread_id AND ns = '' AND checkpoint_id = latest OFFSET 0) AS newest
    WHERE (%(thread_id)b::text IS NULL OR waiting.thread_id = %(thread_id)b)
      AND (%(after_time)b::bigint IS NULL
           OR (waiting.written_at, waiting.thread_id, waiting.task_id)
              {beyond} (%(after_time)b, %(after_thread)b, %(after_task)b))
      AND terms OPERATOR(pg_catalog.@>) %(terms)b::bigint[]
      AND waiting.thread_id {matches}
    ORDER BY waiting.written_at {way}, waiting.thread_id {way}, waiting.task_id {way} LIMIT %(limit)b)
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
ORDER BY page.written_at {way}, page.thread_id {way}, page.task_id {way}
