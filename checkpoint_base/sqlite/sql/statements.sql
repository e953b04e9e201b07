-- name: find_thread
SELECT thread FROM threads WHERE thread_id = :thread_id

-- name: find_place
SELECT threads.thread, namespace
FROM threads LEFT JOIN namespaces ON namespaces.thread = threads.thread AND checkpoint_ns = :checkpoint_ns
WHERE thread_id = :thread_id

-- name: add_thread
INSERT INTO threads (thread_id, updated_at) VALUES (:thread_id, :written_at) RETURNING thread

-- name: add_namespace
INSERT INTO namespaces (thread, checkpoint_ns) VALUES (:thread, :checkpoint_ns) RETURNING namespace

-- name: missing_versions
SELECT pair.value FROM json_each(:channels) AS pair
WHERE NOT EXISTS (
    SELECT 1 FROM channel_values AS stored
    WHERE stored.namespace = :namespace AND stored.channel = json_extract(pair.value, '$[0]')
      AND stored.version = json_extract(pair.value, '$[1]'))

-- name: find_parent
SELECT retired, open_channels FROM checkpoints WHERE namespace = :namespace AND checkpoint_id = :checkpoint_id

-- name: put_checkpoint
INSERT INTO checkpoints (namespace, checkpoint_id, parent_id, run_id, caller_id, written_at, retired,
                         channels, open_channels, terms, header)
VALUES (:namespace, :checkpoint_id, :parent_id, :run_id, :caller_id, :written_at, 0, :channels, :open_channels, :terms, :header)
ON CONFLICT (namespace, checkpoint_id) DO UPDATE SET
    parent_id = excluded.parent_id, run_id = excluded.run_id, caller_id = excluded.caller_id, written_at = excluded.written_at, retired = 0,
    channels = excluded.channels, open_channels = excluded.open_channels, terms = excluded.terms,
    header = excluded.header

-- name: put_value
INSERT OR REPLACE INTO channel_values (namespace, channel, version, root, refs) VALUES (?, ?, ?, ?, ?)

-- name: put_chunk
INSERT OR IGNORE INTO chunks (thread, id, body, node) VALUES (?, ?, ?, ?)

-- name: put_first_write
INSERT OR IGNORE INTO writes (namespace, checkpoint_id, task_id, idx, channel, task_path, questions, settles,
                              written_at, root, refs)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: put_last_write
INSERT OR REPLACE INTO writes (namespace, checkpoint_id, task_id, idx, channel, task_path, questions, settles,
                               written_at, root, refs)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: touch_thread
UPDATE threads SET updated_at = max(updated_at, :written_at) WHERE thread = :thread

-- name: touch_thread_with_checkpoint
UPDATE threads SET created_at = coalesce(created_at, :written_at), updated_at = max(updated_at, :written_at)
WHERE thread = :thread

-- name: anyone_waits
SELECT 1 FROM waiting WHERE thread = :thread LIMIT 1

-- name: refresh_latest
UPDATE threads SET latest = (
    SELECT checkpoint FROM checkpoints
    WHERE namespace = (SELECT namespace FROM namespaces WHERE thread = :thread AND checkpoint_ns = '') AND NOT retired
    ORDER BY checkpoint_id DESC LIMIT 1)
WHERE thread = :thread

-- name: forget_waiting
DELETE FROM waiting WHERE thread = :thread

-- name: derive_waiting
INSERT INTO waiting (thread, task_id, written_at, questions)
SELECT :thread, asked.task_id, asked.written_at, asked.questions
FROM threads JOIN checkpoints ON checkpoint = latest
JOIN writes asked ON asked.namespace = checkpoints.namespace AND asked.checkpoint_id = checkpoints.checkpoint_id
WHERE thread = :thread AND asked.questions > 0 AND NOT EXISTS (
    SELECT 1 FROM writes settled
    WHERE settled.namespace = asked.namespace AND settled.checkpoint_id = asked.checkpoint_id
      AND settled.task_id = asked.task_id AND settled.settles)

-- The same for one task: thousands may wait, and each of them writes.

-- name: forget_waiting_task
DELETE FROM waiting WHERE thread = :thread AND task_id = :task_id

-- name: derive_waiting_task
INSERT INTO waiting (thread, task_id, written_at, questions)
SELECT :thread, asked.task_id, asked.written_at, asked.questions
FROM threads JOIN checkpoints ON checkpoint = latest
JOIN writes asked ON asked.namespace = checkpoints.namespace AND asked.checkpoint_id = checkpoints.checkpoint_id
                 AND asked.task_id = :task_id
WHERE thread = :thread AND asked.questions > 0 AND NOT EXISTS (
    SELECT 1 FROM writes settled
    WHERE settled.namespace = asked.namespace AND settled.checkpoint_id = asked.checkpoint_id
      AND settled.task_id = asked.task_id AND settled.settles)

-- name: load_checkpoint
SELECT * FROM visible_checkpoints
WHERE thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns AND checkpoint_id = :checkpoint_id

-- name: load_latest
SELECT * FROM visible_checkpoints
WHERE thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns
ORDER BY checkpoint_id DESC LIMIT 1

-- name: load_values
SELECT stored.channel, stored.root, stored.refs
FROM json_each(:channels) AS pair CROSS JOIN channel_values AS stored
    ON stored.namespace = :namespace AND stored.channel = json_extract(pair.value, '$[0]')
   AND stored.version = json_extract(pair.value, '$[1]')

-- name: load_value
SELECT root, refs FROM channel_values WHERE namespace = ? AND channel = ? AND version = ?

-- name: load_writes
SELECT task_id, idx, channel, task_path, root, refs, questions, settles, written_at
FROM writes WHERE namespace = :namespace AND checkpoint_id = :checkpoint_id

-- name: load_writes_to_channels
SELECT task_id, idx, channel, task_path, root, refs, questions, settles, written_at
FROM writes
WHERE namespace = :namespace AND checkpoint_id = :checkpoint_id AND channel IN (SELECT value FROM json_each(:channels))

-- name: load_chunks
WITH RECURSIVE named (at) AS (VALUES (1) UNION ALL SELECT at + 16 FROM named WHERE at + 16 < length(:ids))
SELECT id, body, node FROM named CROSS JOIN chunks ON thread = :thread AND id = substr(:ids, at, 16)

-- name: missing_chunks
WITH RECURSIVE named (at) AS (VALUES (1) UNION ALL SELECT at + 16 FROM named WHERE at + 16 < length(:ids))
SELECT substr(:ids, at, 16) FROM named
WHERE NOT EXISTS (SELECT 1 FROM chunks WHERE thread = :thread AND id = substr(:ids, at, 16))

-- The order is total, so that a page can begin where the last one ended. Left out conditions are given as bounds that
-- every id is within; SQLite reads the index from there. Of two upper bounds it would use one, so `below` is the lower.
-- A filter's terms are compared here, by SQLite alone: from a function in Python, it would not pass on Ctrl-C.

-- name: list_namespace
SELECT * FROM visible_checkpoints
WHERE thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns AND checkpoint_id < :below
  AND (:checkpoint_id IS NULL OR checkpoint_id = :checkpoint_id)
  AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
ORDER BY checkpoint_id DESC LIMIT :limit

-- name: list_thread
SELECT * FROM visible_checkpoints
WHERE checkpoint IN (
    -- Sorted without their headers, which are long. Of each namespace, only what may be on the page is looked at.
    SELECT checkpoint FROM threads JOIN namespaces USING (thread) CROSS JOIN checkpoints
    WHERE thread_id = :thread_id AND checkpoint IN (
        SELECT checkpoint FROM checkpoints
        WHERE namespace = namespaces.namespace AND NOT retired AND checkpoint_id < :below
          AND (checkpoint_id, namespaces.checkpoint_ns) < (:after_id, :after_ns)
          AND (:checkpoint_id IS NULL OR checkpoint_id = :checkpoint_id)
          AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
        ORDER BY checkpoint_id DESC LIMIT :limit)
    ORDER BY checkpoint_id DESC, checkpoint_ns DESC LIMIT :limit)
ORDER BY checkpoint_id DESC, checkpoint_ns DESC

-- name: list_everything
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels, open_channels, terms, run_id, caller_id, written_at,
       namespace, thread, checkpoint
FROM checkpoints INDEXED BY checkpoints_by_id
CROSS JOIN namespaces USING (namespace) CROSS JOIN threads USING (thread)
WHERE NOT retired AND checkpoint_id < :below
  AND (checkpoint_id, thread_id, checkpoint_ns) < (:after_id, :after_thread, :after_ns)
  AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
ORDER BY checkpoint_id DESC, thread_id DESC, checkpoint_ns DESC LIMIT :limit

-- name: target_of_ancestry
SELECT namespace, thread FROM checkpoints JOIN namespaces USING (namespace) JOIN threads USING (thread)
WHERE thread_id = :thread_id AND checkpoint_ns = :checkpoint_ns AND checkpoint_id = :checkpoint_id

-- name: ancestors
WITH RECURSIVE chain (checkpoint_id, parent_id, channels) AS (
    SELECT checkpoint_id, parent_id, channels FROM checkpoints
    WHERE namespace = :namespace AND checkpoint_id = :checkpoint_id
    UNION ALL
    SELECT ancestor.checkpoint_id, ancestor.parent_id, ancestor.channels
    FROM chain JOIN checkpoints AS ancestor
        ON ancestor.namespace = :namespace AND ancestor.checkpoint_id = chain.parent_id)
SELECT checkpoint_id, channels FROM chain

-- name: namespaces_of_thread
SELECT namespace FROM namespaces WHERE thread = :thread

-- name: checkpoints_of_thread
SELECT namespace, checkpoint_id, caller_id, NOT retired
FROM namespaces JOIN checkpoints USING (namespace) WHERE thread = :thread

-- name: threads_of_run
SELECT DISTINCT thread_id FROM checkpoints JOIN namespaces USING (namespace) JOIN threads USING (thread)
WHERE run_id = :run_id AND NOT retired

-- name: skeletons
SELECT checkpoint_id, parent_id, run_id, caller_id, channels, open_channels, retired
FROM checkpoints WHERE namespace = :namespace

-- name: value_versions
SELECT channel, version FROM channel_values WHERE namespace = :namespace

-- name: remove_checkpoint
DELETE FROM checkpoints WHERE namespace = ? AND checkpoint_id = ?

-- name: remove_writes
DELETE FROM writes WHERE namespace = ? AND checkpoint_id = ?

-- name: retire_checkpoint
UPDATE checkpoints SET retired = 1, open_channels = ? WHERE namespace = ? AND checkpoint_id = ?

-- name: remove_writes_to_other_channels
DELETE FROM writes
WHERE namespace = ? AND checkpoint_id = ? AND channel NOT IN (SELECT value FROM json_each(?))

-- name: remove_value
DELETE FROM channel_values WHERE namespace = ? AND channel = ? AND version = ?

-- name: references_of_thread
SELECT refs FROM channel_values WHERE refs <> x'' AND namespace IN (SELECT namespace FROM namespaces WHERE thread = :thread)
UNION ALL
SELECT refs FROM writes WHERE refs <> x'' AND namespace IN (SELECT namespace FROM namespaces WHERE thread = :thread)

-- name: chunks_of_thread
SELECT id, CASE WHEN node THEN body ELSE x'' END FROM chunks WHERE thread = :thread

-- name: remove_chunk
DELETE FROM chunks WHERE thread = ? AND id = ?

-- name: any_content
SELECT 1 FROM namespaces
WHERE thread = :thread
  AND (EXISTS (SELECT 1 FROM checkpoints WHERE checkpoints.namespace = namespaces.namespace AND NOT retired)
       OR EXISTS (SELECT 1 FROM writes WHERE writes.namespace = namespaces.namespace))
LIMIT 1

-- name: forget_creation_without_checkpoint
UPDATE threads SET created_at = NULL
WHERE thread = :thread AND NOT EXISTS (
    SELECT 1 FROM checkpoints JOIN namespaces USING (namespace) WHERE thread = :thread AND NOT retired)

-- name: checkpoint_only_in_target
SELECT 1 FROM visible_checkpoints AS mine
WHERE thread_id = :target AND NOT EXISTS (
    SELECT 1 FROM visible_checkpoints AS theirs
    WHERE theirs.thread_id = :source AND theirs.checkpoint_ns = mine.checkpoint_ns
      AND theirs.checkpoint_id = mine.checkpoint_id)
LIMIT 1

-- name: delete_thread
DELETE FROM chunks WHERE thread = :thread;
DELETE FROM waiting WHERE thread = :thread;
DELETE FROM channel_values WHERE namespace IN (SELECT namespace FROM namespaces WHERE thread = :thread);
DELETE FROM writes WHERE namespace IN (SELECT namespace FROM namespaces WHERE thread = :thread);
DELETE FROM checkpoints WHERE namespace IN (SELECT namespace FROM namespaces WHERE thread = :thread);
DELETE FROM namespaces WHERE thread = :thread;
DELETE FROM threads WHERE thread = :thread

-- name: copy_thread
INSERT INTO threads (thread_id, created_at, updated_at)
    SELECT :target, created_at, updated_at FROM threads WHERE thread_id = :source
    ON CONFLICT (thread_id) DO UPDATE SET created_at = excluded.created_at,
                                          updated_at = max(updated_at, excluded.updated_at);
INSERT OR IGNORE INTO namespaces (thread, checkpoint_ns)
    SELECT copy.thread, checkpoint_ns
    FROM threads AS original JOIN namespaces ON namespaces.thread = original.thread JOIN threads AS copy
    WHERE original.thread_id = :source AND copy.thread_id = :target;
INSERT OR IGNORE INTO chunks (thread, id, node, body)
    SELECT copy.thread, id, node, body
    FROM threads AS original JOIN chunks ON chunks.thread = original.thread JOIN threads AS copy
    WHERE original.thread_id = :source AND copy.thread_id = :target;
INSERT OR REPLACE INTO checkpoints (namespace, checkpoint_id, parent_id, run_id, caller_id, written_at, retired, channels,
                                    open_channels, terms, header)
    SELECT into_.namespace, checkpoint_id, parent_id, run_id, caller_id, written_at, retired, channels, open_channels, terms, header
    FROM threads AS original JOIN namespaces AS from_ ON from_.thread = original.thread
    JOIN threads AS copy JOIN namespaces AS into_ ON into_.thread = copy.thread AND into_.checkpoint_ns = from_.checkpoint_ns
    JOIN checkpoints ON checkpoints.namespace = from_.namespace
    WHERE original.thread_id = :source AND copy.thread_id = :target;
INSERT OR REPLACE INTO channel_values (namespace, channel, version, root, refs)
    SELECT into_.namespace, channel, version, root, refs
    FROM threads AS original JOIN namespaces AS from_ ON from_.thread = original.thread
    JOIN threads AS copy JOIN namespaces AS into_ ON into_.thread = copy.thread AND into_.checkpoint_ns = from_.checkpoint_ns
    JOIN channel_values ON channel_values.namespace = from_.namespace
    WHERE original.thread_id = :source AND copy.thread_id = :target;
INSERT OR IGNORE INTO writes (namespace, checkpoint_id, task_id, idx, channel, task_path, questions, settles,
                               written_at, root, refs)
    SELECT into_.namespace, checkpoint_id, task_id, idx, channel, task_path, questions, settles, written_at, root, refs
    FROM threads AS original JOIN namespaces AS from_ ON from_.thread = original.thread
    JOIN threads AS copy JOIN namespaces AS into_ ON into_.thread = copy.thread AND into_.checkpoint_ns = from_.checkpoint_ns
    JOIN writes ON writes.namespace = from_.namespace
    WHERE original.thread_id = :source AND copy.thread_id = :target

-- name: thread_by_id
SELECT * FROM listed_threads
WHERE thread_id = :thread_id AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)

-- name: threads_newest
SELECT * FROM listed_threads
WHERE (updated_at, thread_id) < (:after_time, :after_thread)
  AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
ORDER BY updated_at DESC, thread_id DESC LIMIT :limit

-- name: threads_oldest
SELECT * FROM listed_threads
WHERE (updated_at, thread_id) > (:after_time, :after_thread)
  AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
ORDER BY updated_at, thread_id LIMIT :limit

-- name: waiting_tasks_of_thread
SELECT written_at, thread_id, task_id FROM threads JOIN waiting USING (thread) WHERE thread_id = :thread_id

-- name: interrupts_of_tasks
SELECT asked.value, idx, channel, task_path, writes.root, refs, writes.questions, settles, waiting.written_at, newest.*
FROM threads CROSS JOIN json_each(:tasks) AS asked
CROSS JOIN waiting ON waiting.thread = threads.thread AND waiting.task_id = asked.value
CROSS JOIN visible_checkpoints AS newest ON newest.checkpoint = latest
CROSS JOIN writes ON writes.namespace = newest.namespace AND writes.checkpoint_id = newest.checkpoint_id
           AND writes.task_id = asked.value AND writes.questions > 0
WHERE threads.thread_id = :thread_id AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)

-- name: interrupts_newest
SELECT waiting.task_id, idx, channel, task_path, root, refs, writes.questions, settles, waiting.written_at, newest.*
FROM waiting INDEXED BY waiting_by_time CROSS JOIN threads USING (thread)
CROSS JOIN visible_checkpoints AS newest ON newest.checkpoint = threads.latest
CROSS JOIN writes ON writes.namespace = newest.namespace AND writes.checkpoint_id = newest.checkpoint_id
           AND writes.task_id = waiting.task_id AND writes.questions > 0
WHERE waiting.written_at <= :after_time
  AND (waiting.written_at, threads.thread_id, waiting.task_id) < (:after_time, :after_thread, :after_task)
  AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
ORDER BY waiting.written_at DESC, threads.thread_id DESC, waiting.task_id DESC LIMIT :limit

-- name: interrupts_oldest
SELECT waiting.task_id, idx, channel, task_path, root, refs, writes.questions, settles, waiting.written_at, newest.*
FROM waiting INDEXED BY waiting_by_time CROSS JOIN threads USING (thread)
CROSS JOIN visible_checkpoints AS newest ON newest.checkpoint = threads.latest
CROSS JOIN writes ON writes.namespace = newest.namespace AND writes.checkpoint_id = newest.checkpoint_id
           AND writes.task_id = waiting.task_id AND writes.questions > 0
WHERE waiting.written_at >= :after_time
  AND (waiting.written_at, threads.thread_id, waiting.task_id) > (:after_time, :after_thread, :after_task)
  AND NOT EXISTS (SELECT 1 FROM json_each(:terms) WHERE instr(hex(terms), value) = 0)
ORDER BY waiting.written_at, threads.thread_id, waiting.task_id LIMIT :limit
