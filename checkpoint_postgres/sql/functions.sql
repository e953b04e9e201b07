-- Each operation that takes several statements is a function, so that it is one message and one transaction. The
-- connection keeps the plans of its statements, even where a pooler forbids prepared statements.
--
-- Locks. Writers of a thread share its lock; removing and copying take it exclusively. Each statement of a VOLATILE
-- function sees what was committed when the statement began, so what is looked up under the lock stays true until the
-- commit. A lock is numbered by the hash of its thread: two threads with the same hash wait for each other needlessly,
-- which does no other harm. A server has room for a few thousand locks, so callers remove from many threads in batches.
--
-- The row in `threads` is changed last. Writers of one thread queue there, only for as long as a commit takes, and
-- whichever derives the waiting tasks sees everything that those before it stored.
--
-- A STABLE function sees what the statement that calls it sees: never half of another transaction.
--
-- Plans. When a plan is made, the sizes of arrays and threads are unknown, and tables may still be empty. So OFFSET 0
-- keeps a look-up by a whole key apart from the joins around it, which could otherwise read an entire namespace; NOT IN
-- is answered from a hash of its right side; and without enable_seqscan, a plan stays good when its table grows. A plan
-- that no index serves then seems so expensive that the server would compile it, which takes a second: hence jit = off.
-- force_generic_plan saves planning: a put takes 230 instead of 320 us of the server's CPU.
-- Arrays are read by subscript, because unnest copies each array first: put_writes takes 270 instead of 360 us.
--
-- The rows to store come sorted, or two writers might wait for each other's rows.
-- lock_timeout is less than half of the 20 seconds that a caller waits for an answer, because a writer waits at most
-- twice: for the thread's lock and for its row. Otherwise a session that went on waiting could store an earlier attempt
-- after the caller had repeated it.
--
-- Functions that callers call set search_path = pg_catalog, and plain statements name pg_catalog. Of two functions or
-- operators with the same name, PostgreSQL takes the one whose types fit better, even from a schema in the caller's
-- search_path where others may create objects.

CREATE FUNCTION {schema}.take_locks(p_threads text[]) RETURNS void LANGUAGE plpgsql AS $checkpoints$
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read%' THEN
        RAISE 'transactions must be READ COMMITTED' USING ERRCODE = 'CKP01';
    END IF;
    -- In ascending order, or two callers might wait for each other.
    PERFORM pg_advisory_xact_lock({lock}, number)
    FROM (SELECT DISTINCT hashtext(thread_id) AS number FROM unnest(p_threads) AS thread_id ORDER BY number) AS held;
END $checkpoints$;

CREATE FUNCTION {schema}.unknown_chunks(p_thread text, p_needed bytea[]) RETURNS bytea[] LANGUAGE plpgsql
AS $checkpoints$
BEGIN
    RETURN (SELECT array_agg(needed)
            FROM unnest(p_needed) AS needed
            LEFT JOIN LATERAL (
                SELECT true AS is_stored FROM {schema}.chunks WHERE thread_id = p_thread AND id = needed OFFSET 0
            ) AS found ON true
            WHERE is_stored IS NULL);
END $checkpoints$;

-- Derive again whether these tasks wait, one after the other: for all together, the server may read every waiting task of
-- the thread. A task that comes several times in a row is looked at once.
CREATE FUNCTION {schema}.derive_waiting_of(p_thread text, p_latest text, p_tasks text[]) RETURNS void LANGUAGE plpgsql
AS $checkpoints$
DECLARE
    task text;
    done text;
BEGIN
    FOREACH task IN ARRAY p_tasks LOOP
        CONTINUE WHEN task = done;
        DELETE FROM {schema}.waiting WHERE thread_id = p_thread AND task_id = task;
        INSERT INTO {schema}.waiting (thread_id, task_id, written_at, questions)
        SELECT thread_id, task_id, written_at, questions FROM {schema}.writes
        WHERE thread_id = p_thread AND ns = '' AND checkpoint_id = p_latest AND task_id = task AND questions > 0
          AND NOT EXISTS (
            SELECT FROM {schema}.writes
            WHERE thread_id = p_thread AND ns = '' AND checkpoint_id = p_latest AND task_id = task AND settles OFFSET 0);
        done := task;
    END LOOP;
END $checkpoints$;

CREATE FUNCTION {schema}.derive_waiting(p_thread text, p_latest text) RETURNS void LANGUAGE plpgsql AS $checkpoints$
DECLARE
    asking text[];
BEGIN
    DELETE FROM {schema}.waiting WHERE thread_id = p_thread;
    SELECT array_agg(task_id) INTO asking FROM {schema}.writes
    WHERE thread_id = p_thread AND ns = '' AND checkpoint_id = p_latest AND questions > 0;
    IF asking IS NOT NULL THEN  -- nobody asks on a checkpoint that has just been put
        PERFORM {schema}.derive_waiting_of(p_thread, p_latest, asking);
    END IF;
END $checkpoints$;

CREATE FUNCTION {schema}.put(
    p_thread text, p_ns bytea, p_checkpoint_ns text, p_checkpoint text, p_parent text, p_run text, p_caller text,
    p_written_at bigint,
    p_channels text[], p_versions text[], p_open text[], p_terms bigint[], p_header bytea,
    p_value_channels text[], p_value_versions text[], p_value_roots bytea[], p_value_refs bytea[],
    p_chunk_ids bytea[], p_chunk_nodes boolean[], p_chunk_bodies bytea[], p_needed bytea[],
    p_unchanged_channels text[], p_unchanged_versions text[],
    OUT missing_chunks bytea[], OUT missing_channels text[], OUT missing_versions text[], OUT missing_parent boolean
) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '9s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
DECLARE
    newest text;
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read%' THEN
        RAISE 'transactions must be READ COMMITTED' USING ERRCODE = 'CKP01';
    END IF;
    PERFORM pg_advisory_xact_lock_shared({lock}, hashtext(p_thread));
    IF cardinality(p_needed) > 0 THEN
        missing_chunks := {schema}.unknown_chunks(p_thread, p_needed);
    END IF;
    IF cardinality(p_unchanged_channels) > 0 THEN
        SELECT array_agg(p_unchanged_channels[n]), array_agg(p_unchanged_versions[n])
        INTO missing_channels, missing_versions
        FROM generate_subscripts(p_unchanged_channels, 1) AS n
        WHERE NOT EXISTS (
            SELECT FROM {schema}.channel_values
            WHERE thread_id = p_thread AND ns = p_ns
              AND channel = p_unchanged_channels[n] AND version = p_unchanged_versions[n] OFFSET 0);
    END IF;
    IF p_parent IS NOT NULL AND cardinality(p_open) > 0 THEN
        -- A retired parent has kept only the writes to its open channels.
        missing_parent := NOT EXISTS (
            SELECT FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND ns = p_ns AND checkpoint_id = p_parent
              AND (NOT retired OR p_open <@ open_channels));
    END IF;
    IF missing_chunks IS NOT NULL OR missing_channels IS NOT NULL OR missing_parent THEN
        RETURN;
    END IF;
    IF cardinality(p_chunk_ids) > 0 THEN
        INSERT INTO {schema}.chunks (thread_id, id, node, body)
        SELECT p_thread, p_chunk_ids[n], p_chunk_nodes[n], p_chunk_bodies[n]
        FROM generate_subscripts(p_chunk_ids, 1) AS n
        ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(p_value_channels) > 0 THEN
        INSERT INTO {schema}.channel_values (thread_id, ns, channel, version, root, refs)
        SELECT p_thread, p_ns, p_value_channels[n], p_value_versions[n], p_value_roots[n], p_value_refs[n]
        FROM generate_subscripts(p_value_channels, 1) AS n
        ON CONFLICT (thread_id, ns, channel, version) DO UPDATE SET root = excluded.root, refs = excluded.refs;
    END IF;
    INSERT INTO {schema}.checkpoints (thread_id, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, caller_id, written_at, retired,
                                      channels, versions, open_channels, terms, header)
    VALUES (p_thread, p_ns, p_checkpoint, p_checkpoint_ns, p_parent, p_run, p_caller, p_written_at, false,
            p_channels, p_versions, p_open, p_terms, p_header)
    ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE SET
        parent_id = excluded.parent_id, run_id = excluded.run_id, caller_id = excluded.caller_id,
        written_at = excluded.written_at, retired = false,
        channels = excluded.channels, versions = excluded.versions, open_channels = excluded.open_channels,
        terms = excluded.terms, header = excluded.header;
    INSERT INTO {schema}.threads AS known (thread_id, created_at, updated_at, latest)
    VALUES (p_thread, p_written_at, p_written_at, CASE WHEN p_ns = '' THEN p_checkpoint END)
    ON CONFLICT (thread_id) DO UPDATE SET
        created_at = coalesce(known.created_at, excluded.created_at),
        updated_at = greatest(known.updated_at, excluded.updated_at),
        latest = greatest(known.latest, excluded.latest)
    RETURNING latest INTO newest;
    -- Usually nothing is waiting, and no question was stored ahead of its checkpoint.
    IF p_ns = '' AND newest = p_checkpoint AND (
        EXISTS (SELECT FROM {schema}.waiting WHERE thread_id = p_thread)
        OR EXISTS (SELECT FROM {schema}.writes
                   WHERE thread_id = p_thread AND ns = '' AND checkpoint_id = p_checkpoint AND questions > 0)) THEN
        PERFORM {schema}.derive_waiting(p_thread, newest);
    END IF;
END $checkpoints$;

CREATE FUNCTION {schema}.put_writes(
    p_thread text, p_ns bytea, p_checkpoint text,
    p_tasks text[], p_idx integer[], p_channels text[], p_paths text[], p_questions integer[], p_settles boolean[],
    p_times bigint[], p_roots bytea[], p_refs bytea[],
    p_chunk_ids bytea[], p_chunk_nodes boolean[], p_chunk_bodies bytea[], p_needed bytea[]
) RETURNS bytea[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '9s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
DECLARE
    missing bytea[];
    newest text;
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read%' THEN
        RAISE 'transactions must be READ COMMITTED' USING ERRCODE = 'CKP01';
    END IF;
    PERFORM pg_advisory_xact_lock_shared({lock}, hashtext(p_thread));
    IF cardinality(p_needed) > 0 THEN
        missing := {schema}.unknown_chunks(p_thread, p_needed);
        IF missing IS NOT NULL THEN
            RETURN missing;
        END IF;
    END IF;
    IF cardinality(p_chunk_ids) > 0 THEN
        INSERT INTO {schema}.chunks (thread_id, id, node, body)
        SELECT p_thread, p_chunk_ids[n], p_chunk_nodes[n], p_chunk_bodies[n]
        FROM generate_subscripts(p_chunk_ids, 1) AS n
        ON CONFLICT DO NOTHING;
    END IF;
    INSERT INTO {schema}.writes AS known (thread_id, ns, checkpoint_id, task_id, idx, channel, task_path, questions,
                                          settles, written_at, root, refs)
    SELECT p_thread, p_ns, p_checkpoint, p_tasks[n], p_idx[n], p_channels[n], p_paths[n], p_questions[n],
           p_settles[n], p_times[n], p_roots[n], p_refs[n]
    FROM generate_subscripts(p_tasks, 1) AS n
    ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE SET
        channel = excluded.channel, task_path = excluded.task_path, questions = excluded.questions,
        settles = excluded.settles, written_at = excluded.written_at, root = excluded.root, refs = excluded.refs
    WHERE known.idx < 0;
    INSERT INTO {schema}.threads AS known (thread_id, updated_at)
    SELECT p_thread, max(written_at) FROM unnest(p_times) AS written_at
    ON CONFLICT (thread_id) DO UPDATE SET updated_at = greatest(known.updated_at, excluded.updated_at)
    RETURNING latest INTO newest;
    IF p_ns = '' AND newest = p_checkpoint
       AND (0 < ANY (p_questions) OR EXISTS (SELECT FROM {schema}.waiting WHERE thread_id = p_thread)) THEN
        -- Only of these tasks: thousands may wait, and each of them writes.
        PERFORM {schema}.derive_waiting_of(p_thread, newest, p_tasks);
    END IF;
    RETURN NULL;
END $checkpoints$;

-- The ids of all chunks below values, down to the leaves; refs[n] belong to threads[n]. One query for each level.
-- Bodies are left to the caller's last query, because PL/pgSQL copies an array whenever it touches it.
CREATE FUNCTION {schema}.ids_below(p_threads text[], p_refs bytea[], OUT chunk_threads text[], OUT chunk_ids bytea[])
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
DECLARE
    level_threads text[];
    level_ids bytea[];
BEGIN
    SELECT array_agg(thread_id), array_agg(id) INTO level_threads, level_ids FROM (
        SELECT DISTINCT thread_id, substr(refs, 1 + 16 * n, 16) AS id
        FROM unnest(p_threads, p_refs) AS given (thread_id, refs), generate_series(0, length(refs) / 16 - 1) AS n) AS ids;
    -- The longest value has a dozen levels. Nodes that name each other, because they were damaged, would have no end.
    FOR depth IN 1 .. 32 LOOP
        EXIT WHEN level_ids IS NULL;
        chunk_threads := chunk_threads || level_threads;
        chunk_ids := chunk_ids || level_ids;
        SELECT array_agg(thread_id), array_agg(id) INTO level_threads, level_ids FROM (
            SELECT DISTINCT thread_id, substr(body, 1 + 16 * n, 16) AS id
            FROM unnest(level_threads, level_ids) AS asked (thread_id, id)
            CROSS JOIN LATERAL (
                SELECT body FROM {schema}.chunks
                WHERE chunks.thread_id = asked.thread_id AND chunks.id = asked.id AND node OFFSET 0) AS parent
            CROSS JOIN generate_series(0, length(body) / 16 - 1) AS n) AS ids;
    END LOOP;
END $checkpoints$;

CREATE FUNCTION {schema}.chunks_below(p_threads text[], p_refs bytea[])
RETURNS TABLE (chunk_ids bytea[], chunk_nodes boolean[], chunk_bodies bytea[])
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT array_agg(asked.id), array_agg(node), array_agg(body)
    FROM {schema}.ids_below(p_threads, p_refs) AS below
    CROSS JOIN unnest(below.chunk_threads, below.chunk_ids) AS asked (thread_id, id)
    CROSS JOIN LATERAL (
        SELECT node, body FROM {schema}.chunks
        WHERE chunks.thread_id = asked.thread_id AND chunks.id = asked.id OFFSET 0) AS stored;
END $checkpoints$;

-- The values and writes of checkpoints, and the chunks of all of them; `…_of` numbers the given keys from 1.
-- The returned row has been in memory as arrays anyway. With the usual work_mem it would be written to a file and read
-- again, here and in `load`, which takes time that grows faster than the row: 440 MB took 27 s, and now take 8 s.
CREATE FUNCTION {schema}.contents(p_threads text[], p_ns bytea[], p_checkpoints text[]) RETURNS TABLE (
    value_of integer[], value_channels text[], value_roots bytea[], value_refs bytea[],
    write_of integer[], write_tasks text[], write_idx integer[], write_channels text[],
    write_paths text[], write_questions integer[], write_settles boolean[], write_times bigint[],
    write_roots bytea[], write_refs bytea[],
    chunk_ids bytea[], chunk_nodes boolean[], chunk_bodies bytea[]
) LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp SET work_mem = '1GB' SET enable_seqscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT * FROM unnest(p_threads, p_ns, p_checkpoints) WITH ORDINALITY AS asked (thread_id, ns, checkpoint_id, n)),
    values_ AS MATERIALIZED (
        SELECT n::integer, asked.thread_id, pair.channel, root, refs
        FROM asked
        CROSS JOIN LATERAL (
            SELECT channels, versions FROM {schema}.checkpoints
            WHERE checkpoints.thread_id = asked.thread_id AND checkpoints.ns = asked.ns
              AND checkpoints.checkpoint_id = asked.checkpoint_id
            OFFSET 0) AS holder
        CROSS JOIN unnest(channels, versions) AS pair (channel, version)
        CROSS JOIN LATERAL (
            SELECT root, refs FROM {schema}.channel_values AS stored
            WHERE stored.thread_id = asked.thread_id AND stored.ns = asked.ns
              AND stored.channel = pair.channel AND stored.version = pair.version
            OFFSET 0) AS stored),
    writes_ AS MATERIALIZED (
        SELECT asked.n::integer, stored.*
        FROM asked CROSS JOIN LATERAL (
            SELECT * FROM {schema}.writes
            WHERE writes.thread_id = asked.thread_id AND writes.ns = asked.ns
              AND writes.checkpoint_id = asked.checkpoint_id
            OFFSET 0) AS stored),
    all_refs AS (
        SELECT array_agg(thread_id) AS threads, array_agg(refs) AS refs
        FROM (SELECT thread_id, refs FROM values_ UNION ALL SELECT thread_id, refs FROM writes_) AS every WHERE refs <> '')
    SELECT of_values.*, of_writes.*, below.*
    FROM (SELECT array_agg(n), array_agg(channel), array_agg(root), array_agg(refs) FROM values_) AS of_values,
         (SELECT array_agg(n), array_agg(task_id), array_agg(idx), array_agg(channel), array_agg(task_path),
                 array_agg(questions), array_agg(settles), array_agg(written_at), array_agg(root), array_agg(refs)
          FROM writes_) AS of_writes,
         all_refs CROSS JOIN LATERAL {schema}.chunks_below(all_refs.threads, all_refs.refs) AS below;
END $checkpoints$;

-- The keys of a page of a thread in all its namespaces, newest first. Whatever the server believes of the thread's length,
-- it must not read and sort all of the thread for a page.
CREATE FUNCTION {schema}.page_of_thread(p_thread text, p_before text, p_after text, p_after_ns text, p_limit bigint)
RETURNS TABLE (ns bytea, checkpoint_id text) LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
SET plan_cache_mode = force_custom_plan AS $checkpoints$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT ns, checkpoint_id FROM {schema}.checkpoints
    WHERE thread_id = p_thread AND NOT retired
      AND (p_before IS NULL OR checkpoint_id ~<~ p_before)
      AND (p_after IS NULL OR (checkpoint_id ~<=~ p_after AND (checkpoint_id, checkpoint_ns) < (p_after, p_after_ns)))
    ORDER BY checkpoint_id USING ~>~, checkpoint_ns DESC LIMIT p_limit;
END $checkpoints$;

CREATE FUNCTION {schema}.load(p_thread text, p_ns bytea, p_checkpoint text) RETURNS TABLE (
    thread_id text, checkpoint_ns text, checkpoint_id text, parent_id text, header bytea, channels text[],
    versions text[], open_channels text[], terms bigint[], run_id text, caller_id text, written_at bigint,
    value_of integer[], value_channels text[], value_roots bytea[], value_refs bytea[],
    write_of integer[], write_tasks text[], write_idx integer[], write_channels text[],
    write_paths text[], write_questions integer[], write_settles boolean[], write_times bigint[],
    write_roots bytea[], write_refs bytea[], chunk_ids bytea[], chunk_nodes boolean[], chunk_bodies bytea[]
) LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, pg_temp SET work_mem = '1GB' SET enable_seqscan = off SET jit = off
SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
DECLARE
    found_id text := p_checkpoint;
BEGIN
    IF p_checkpoint IS NULL THEN
        SELECT checkpoint_id INTO found_id FROM {schema}.checkpoints
        WHERE thread_id = p_thread AND ns = p_ns AND NOT retired ORDER BY checkpoint_id DESC LIMIT 1;
    END IF;
    RETURN QUERY
    SELECT thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels,
           versions, open_channels, terms, run_id, caller_id, written_at, contents.*
    FROM {schema}.checkpoints, {schema}.contents(ARRAY[p_thread], ARRAY[p_ns], ARRAY[found_id])
    WHERE thread_id = p_thread AND ns = p_ns AND checkpoint_id = found_id AND NOT retired;
END $checkpoints$;

-- The ancestors that the open channels of a checkpoint (the latest, if NULL) are rebuilt from, numbered from 1, nearest
-- first; their writes to the channels that are still open there; and for each channel the nearest value.
CREATE FUNCTION {schema}.ancestry(
    p_thread text, p_ns bytea, p_checkpoint text, p_channels text[],
    OUT generations integer,
    OUT seed_channels text[], OUT seed_roots bytea[], OUT seed_refs bytea[],
    OUT write_of integer[], OUT write_tasks text[], OUT write_idx integer[], OUT write_channels text[],
    OUT write_paths text[], OUT write_questions integer[], OUT write_settles boolean[], OUT write_times bigint[],
    OUT write_roots bytea[], OUT write_refs bytea[],
    OUT chunk_ids bytea[], OUT chunk_nodes boolean[], OUT chunk_bodies bytea[]
) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
DECLARE
    target text := p_checkpoint;
    passed text[];
    opened text[];         -- the open channels of each ancestor, one ancestor after the other, …
    opened_at integer[];   -- … and the number of that ancestor
BEGIN
    IF target IS NULL THEN
        SELECT checkpoint_id INTO target FROM {schema}.checkpoints
        WHERE thread_id = p_thread AND ns = p_ns AND NOT retired ORDER BY checkpoint_id DESC LIMIT 1;
    END IF;
    -- Callers may name any parent, so parents may form a ring. A mark that moves ahead at every power of two is met
    -- again in a ring, which ends the search; an ancestor that was passed twice counts where it was passed first.
    WITH RECURSIVE chain (depth, id, parent, mark, before, after) AS (
        SELECT 0, checkpoint_id, parent_id, checkpoint_id, ARRAY[]::text[], p_channels
        FROM {schema}.checkpoints WHERE thread_id = p_thread AND ns = p_ns AND checkpoint_id = target
        UNION ALL
        SELECT depth + 1, checkpoint_id, parent_id,
               CASE WHEN depth + 1 & depth = 0 THEN checkpoint_id ELSE mark END,
               after,
               ARRAY(SELECT open_ FROM unnest(after) AS open_
                     WHERE NOT EXISTS (
                         SELECT FROM {schema}.channel_values AS stored
                         WHERE stored.thread_id = p_thread AND stored.ns = p_ns AND stored.channel = open_
                           AND stored.version = versions[array_position(channels, open_)] OFFSET 0))
        FROM chain CROSS JOIN LATERAL (
            SELECT checkpoint_id, parent_id, channels, versions FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND ns = p_ns AND checkpoint_id = parent OFFSET 0) AS ancestor
        WHERE cardinality(after) > 0 AND checkpoint_id <> mark),
    ancestors AS (
        SELECT DISTINCT ON (id) depth, id, before FROM chain WHERE id <> target ORDER BY id, depth),
    numbered AS (
        SELECT row_number() OVER (ORDER BY depth) AS n, id, before FROM ancestors)
    SELECT (SELECT array_agg(id ORDER BY n) FROM numbered),
           (SELECT array_agg(open_ ORDER BY n) FROM numbered, unnest(before) AS open_),
           (SELECT array_agg(n ORDER BY n) FROM numbered, unnest(before) AS open_)
    INTO passed, opened, opened_at;
    generations := coalesce(cardinality(passed), 0);
    SELECT array_agg(n), array_agg(task_id), array_agg(idx), array_agg(written.channel), array_agg(task_path),
           array_agg(questions), array_agg(settles), array_agg(written_at), array_agg(root), array_agg(refs)
    INTO write_of, write_tasks, write_idx, write_channels, write_paths,
         write_questions, write_settles, write_times, write_roots, write_refs
    FROM unnest(opened, opened_at) AS asked (channel, n)
    CROSS JOIN LATERAL (
        SELECT * FROM {schema}.writes
        WHERE thread_id = p_thread AND ns = p_ns AND checkpoint_id = passed[n] AND channel = asked.channel
        OFFSET 0) AS written;
    SELECT array_agg(channel), array_agg(root), array_agg(refs) INTO seed_channels, seed_roots, seed_refs
    FROM (
        SELECT DISTINCT ON (asked.channel) asked.channel, root, refs
        FROM unnest(opened, opened_at) AS asked (channel, n)
        CROSS JOIN LATERAL (
            SELECT versions[array_position(channels, asked.channel)] AS version FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND ns = p_ns AND checkpoint_id = passed[n] OFFSET 0) AS holder
        CROSS JOIN LATERAL (
            SELECT root, refs FROM {schema}.channel_values AS stored
            WHERE stored.thread_id = p_thread AND stored.ns = p_ns AND stored.channel = asked.channel
              AND stored.version = holder.version OFFSET 0) AS stored
        ORDER BY asked.channel, n) AS nearest;
    SELECT * INTO chunk_ids, chunk_nodes, chunk_bodies
    FROM {schema}.chunks_below(array_fill(p_thread, ARRAY[coalesce(cardinality(seed_refs || write_refs), 0)]),
                               seed_refs || write_refs);
END $checkpoints$;
