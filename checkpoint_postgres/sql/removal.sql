-- Functions that remove and copy, which take a thread's lock exclusively. What functions.sql says at its top holds here.

CREATE FUNCTION {schema}.remove_thread(p_thread text) RETURNS void LANGUAGE plpgsql AS $checkpoints$
BEGIN
    DELETE FROM {schema}.chunks WHERE thread_id = p_thread;
    DELETE FROM {schema}.waiting WHERE thread_id = p_thread;
    DELETE FROM {schema}.channel_values WHERE thread_id = p_thread;
    DELETE FROM {schema}.writes WHERE thread_id = p_thread;
    DELETE FROM {schema}.checkpoints WHERE thread_id = p_thread;
    DELETE FROM {schema}.threads WHERE thread_id = p_thread;
END $checkpoints$;

-- Derive again which checkpoint of a thread is the latest, and which of its tasks wait.
CREATE FUNCTION {schema}.refresh_inbox(p_thread text) RETURNS void LANGUAGE plpgsql AS $checkpoints$
DECLARE
    newest text;
BEGIN
    SELECT checkpoint_id INTO newest FROM {schema}.checkpoints
    WHERE thread_id = p_thread AND ns = '' AND NOT retired ORDER BY checkpoint_id DESC LIMIT 1;
    UPDATE {schema}.threads SET latest = newest WHERE thread_id = p_thread;
    PERFORM {schema}.derive_waiting(p_thread, newest);
END $checkpoints$;

-- Remove the checkpoints of these runs (all but the latest p_keep of each namespace, if p_runs is NULL), and what only
-- they needed. The decisions are those of checkpoint_base.retention, whose comments say why.
CREATE FUNCTION {schema}.retain(p_thread text, p_runs text[], p_keep integer) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $checkpoints$
#variable_conflict use_column
DECLARE
    ended_ns bytea[];           -- of calls that began at checkpoints that go
    kept_ns bytea[];
    kept_ids text[];
    needed_ns bytea[];          -- each (namespace, checkpoint, channel) that is rebuilt or that another is rebuilt from, …
    needed_ids text[];
    needed_channels text[];
    needed_versions text[];     -- … and the channel's version if its value is stored, where the search ends
    removed_ns bytea[];
    removed_ids text[];
    referenced_ns bytea[];
    referenced_channels text[];
    referenced_versions text[];
    reached_ids bytea[];
    ancestor record;
BEGIN
    IF p_runs IS NULL THEN
        WITH of_calls AS MATERIALIZED (
            SELECT DISTINCT ON (ns) ns, caller_id FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND NOT retired AND caller_id IS NOT NULL ORDER BY ns, checkpoint_id DESC),
        outliving AS (
            SELECT checkpoint_id, row_number() OVER (PARTITION BY ns ORDER BY checkpoint_id DESC) AS age
            FROM {schema}.checkpoints WHERE thread_id = p_thread AND NOT retired AND ns NOT IN (SELECT ns FROM of_calls))
        SELECT array_agg(ns) INTO ended_ns FROM of_calls
        WHERE caller_id NOT IN (SELECT checkpoint_id FROM outliving WHERE age <= p_keep)
          AND caller_id IN (SELECT checkpoint_id FROM {schema}.checkpoints WHERE thread_id = p_thread);
        SELECT array_agg(ns), array_agg(checkpoint_id) INTO kept_ns, kept_ids FROM (
            SELECT ns, checkpoint_id, row_number() OVER (PARTITION BY ns ORDER BY checkpoint_id DESC) AS age
            FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND NOT retired AND ns NOT IN (SELECT unnest(ended_ns))) AS aged
        WHERE age <= p_keep;
    ELSE
        SELECT array_agg(ns), array_agg(checkpoint_id) INTO kept_ns, kept_ids FROM {schema}.checkpoints
        WHERE thread_id = p_thread AND NOT retired AND (run_id IS NULL OR run_id <> ALL (p_runs));
    END IF;
    WITH RECURSIVE ever_open AS (
        SELECT DISTINCT ns, channel FROM {schema}.checkpoints, unnest(open_channels) AS channel
        WHERE thread_id = p_thread),
    -- It begins at the kept checkpoints themselves. UNION drops what was visited before, which also ends a ring of parents.
    walk (ns, channel, checkpoint_id, parent_id, version) AS (
        SELECT ns, pair.channel, holder.checkpoint_id, parent_id, NULL::text COLLATE "C"
        FROM unnest(kept_ns, kept_ids) AS kept (ns, checkpoint_id)
        CROSS JOIN LATERAL (
            SELECT checkpoint_id, parent_id, channels, versions FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND checkpoints.ns = kept.ns AND checkpoints.checkpoint_id = kept.checkpoint_id
            OFFSET 0) AS holder
        CROSS JOIN unnest(channels, versions) AS pair (channel, version)
        JOIN ever_open USING (ns, channel)
        WHERE NOT EXISTS (
            SELECT FROM {schema}.channel_values AS stored
            WHERE stored.thread_id = p_thread AND stored.ns = kept.ns
              AND stored.channel = pair.channel AND stored.version = pair.version OFFSET 0)
        UNION
        SELECT walk.ns, walk.channel, ancestor.*
        FROM walk CROSS JOIN LATERAL (
            SELECT checkpoint_id, parent_id, (
                SELECT version FROM {schema}.channel_values AS stored
                WHERE stored.thread_id = p_thread AND stored.ns = walk.ns AND stored.channel = walk.channel
                  AND stored.version = versions[array_position(channels, walk.channel)])
            FROM {schema}.checkpoints
            WHERE thread_id = p_thread AND checkpoints.ns = walk.ns AND checkpoints.checkpoint_id = walk.parent_id
            OFFSET 0) AS ancestor
        WHERE walk.version IS NULL)
    SELECT array_agg(ns), array_agg(checkpoint_id), array_agg(channel), array_agg(version)
    INTO needed_ns, needed_ids, needed_channels, needed_versions FROM walk;

    -- One after the other, because a join that expects few of them may read the entire thread for each.
    FOR ancestor IN
        SELECT ns, checkpoint_id, array_agg(channel ORDER BY channel) AS channels
        FROM unnest(needed_ns, needed_ids, needed_channels) AS needed (ns, checkpoint_id, channel)
        WHERE (ns, checkpoint_id) NOT IN (SELECT * FROM unnest(kept_ns, kept_ids))
        GROUP BY ns, checkpoint_id
    LOOP
        UPDATE {schema}.checkpoints SET retired = true, open_channels = ancestor.channels
        WHERE thread_id = p_thread AND ns = ancestor.ns AND checkpoint_id = ancestor.checkpoint_id
          AND NOT (retired AND open_channels = ancestor.channels);
        DELETE FROM {schema}.writes
        WHERE thread_id = p_thread AND ns = ancestor.ns AND checkpoint_id = ancestor.checkpoint_id
          AND channel <> ALL (ancestor.channels);
    END LOOP;

    WITH removed AS (
        DELETE FROM {schema}.checkpoints
        WHERE thread_id = p_thread
          AND (ns, checkpoint_id) NOT IN (SELECT * FROM unnest(kept_ns, kept_ids))
          AND (ns, checkpoint_id) NOT IN (SELECT * FROM unnest(needed_ns, needed_ids))
        RETURNING ns, checkpoint_id)
    SELECT array_agg(ns), array_agg(checkpoint_id) INTO removed_ns, removed_ids FROM removed;
    -- Not IN, which would become a join. Writes whose checkpoint has not arrived yet stay.
    DELETE FROM {schema}.writes
    WHERE thread_id = p_thread AND NOT ((ns, checkpoint_id) NOT IN (SELECT * FROM unnest(removed_ns, removed_ids)));

    -- NOT IN hashes its right side only if the server expects it to fit into memory. Of an array it expects ten elements;
    -- of a query, as many as it takes the thread to have, and their product with others it guesses.
    SELECT array_agg(ns), array_agg(channel), array_agg(version)
    INTO referenced_ns, referenced_channels, referenced_versions FROM (
        SELECT ns, pair.channel, pair.version
        FROM {schema}.checkpoints, unnest(channels, versions) AS pair (channel, version)
        WHERE thread_id = p_thread AND NOT retired
        UNION ALL
        SELECT ns, channel, version
        FROM unnest(needed_ns, needed_channels, needed_versions) AS seeds (ns, channel, version)
        WHERE version IS NOT NULL) AS referenced;
    DELETE FROM {schema}.channel_values
    WHERE thread_id = p_thread AND (ns, channel, version) NOT IN (
        SELECT * FROM unnest(referenced_ns, referenced_channels, referenced_versions));

    IF kept_ids IS NULL AND NOT EXISTS (SELECT FROM {schema}.writes WHERE thread_id = p_thread) THEN
        PERFORM {schema}.remove_thread(p_thread);
        RETURN;
    END IF;

    WITH RECURSIVE refs_of_all AS (
        SELECT refs FROM {schema}.channel_values WHERE thread_id = p_thread AND refs <> ''
        UNION ALL SELECT refs FROM {schema}.writes WHERE thread_id = p_thread AND refs <> ''),
    reached (id) AS (
        SELECT substr(refs, 1 + 16 * n, 16) FROM refs_of_all, generate_series(0, length(refs) / 16 - 1) AS n
        UNION
        SELECT substr(body, 1 + 16 * n, 16)
        FROM reached JOIN {schema}.chunks AS parent ON thread_id = p_thread AND parent.id = reached.id AND node
        CROSS JOIN generate_series(0, length(body) / 16 - 1) AS n)
    SELECT array_agg(id) INTO reached_ids FROM reached;
    DELETE FROM {schema}.chunks WHERE thread_id = p_thread AND id NOT IN (SELECT unnest(reached_ids));

    PERFORM {schema}.refresh_inbox(p_thread);
    IF kept_ids IS NULL THEN
        UPDATE {schema}.threads SET created_at = NULL WHERE thread_id = p_thread;
    END IF;
END $checkpoints$;

CREATE FUNCTION {schema}.prune(p_threads text[], p_keep integer) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $checkpoints$
BEGIN
    PERFORM {schema}.take_locks(p_threads);
    PERFORM {schema}.retain(thread_id, NULL, p_keep)
    FROM (SELECT DISTINCT thread_id FROM unnest(p_threads) AS thread_id) AS named;
END $checkpoints$;

CREATE FUNCTION {schema}.delete_threads(p_threads text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $checkpoints$
BEGIN
    PERFORM {schema}.take_locks(p_threads);
    PERFORM {schema}.remove_thread(thread_id) FROM unnest(p_threads) AS thread_id;
END $checkpoints$;

CREATE FUNCTION {schema}.delete_runs(p_threads text[], p_runs text[]) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $checkpoints$
BEGIN
    PERFORM {schema}.take_locks(p_threads);
    PERFORM {schema}.retain(thread_id, p_runs, NULL) FROM unnest(p_threads) AS thread_id;
END $checkpoints$;

CREATE FUNCTION {schema}.copy_thread(p_source text, p_target text) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET jit = off AS $checkpoints$
#variable_conflict use_column
BEGIN
    PERFORM {schema}.take_locks(ARRAY[p_source, p_target]);
    IF NOT EXISTS (SELECT FROM {schema}.threads WHERE thread_id = p_source) THEN
        RETURN true;
    END IF;
    IF EXISTS (
        SELECT FROM {schema}.checkpoints AS mine
        WHERE thread_id = p_target AND NOT retired AND NOT EXISTS (
            SELECT FROM {schema}.checkpoints AS theirs
            WHERE theirs.thread_id = p_source AND theirs.ns = mine.ns AND theirs.checkpoint_id = mine.checkpoint_id
              AND NOT theirs.retired OFFSET 0)) THEN
        RETURN false;
    END IF;
    INSERT INTO {schema}.chunks (thread_id, id, node, body)
    SELECT p_target, id, node, body FROM {schema}.chunks WHERE thread_id = p_source
    ON CONFLICT DO NOTHING;
    INSERT INTO {schema}.channel_values (thread_id, ns, channel, version, root, refs)
    SELECT p_target, ns, channel, version, root, refs FROM {schema}.channel_values WHERE thread_id = p_source
    ON CONFLICT (thread_id, ns, channel, version) DO UPDATE SET root = excluded.root, refs = excluded.refs;
    INSERT INTO {schema}.checkpoints (thread_id, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, caller_id, written_at, retired,
                                      channels, versions, open_channels, terms, header)
    SELECT p_target, ns, checkpoint_id, checkpoint_ns, parent_id, run_id, caller_id, written_at, retired,
           channels, versions, open_channels, terms, header
    FROM {schema}.checkpoints WHERE thread_id = p_source
    ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE SET
        parent_id = excluded.parent_id, run_id = excluded.run_id, caller_id = excluded.caller_id,
        written_at = excluded.written_at, retired = excluded.retired, channels = excluded.channels, versions = excluded.versions,
        open_channels = excluded.open_channels, terms = excluded.terms, header = excluded.header;
    INSERT INTO {schema}.writes (thread_id, ns, checkpoint_id, task_id, idx, channel, task_path, questions, settles,
                                 written_at, root, refs)
    SELECT p_target, ns, checkpoint_id, task_id, idx, channel, task_path, questions, settles, written_at, root, refs
    FROM {schema}.writes WHERE thread_id = p_source
    ON CONFLICT DO NOTHING;
    INSERT INTO {schema}.threads AS known (thread_id, created_at, updated_at)
    SELECT p_target, created_at, updated_at FROM {schema}.threads WHERE thread_id = p_source
    ON CONFLICT (thread_id) DO UPDATE SET
        created_at = excluded.created_at, updated_at = greatest(known.updated_at, excluded.updated_at);
    PERFORM {schema}.refresh_inbox(p_target);
    RETURN true;
END $checkpoints$;
