-- Layout 1. Threads and namespaces are rows with a number, because their ids are long and stand in every other row.
-- Times are microseconds since 1970-01-01 UTC.

CREATE TABLE threads (
    thread INTEGER PRIMARY KEY,
    thread_id TEXT NOT NULL UNIQUE,
    created_at INTEGER,            -- NULL until the first checkpoint: writes may come before it
    updated_at INTEGER NOT NULL,
    latest INTEGER                 -- checkpoints.checkpoint: the greatest visible one of the root namespace
);
CREATE INDEX threads_by_time ON threads (updated_at, thread_id) WHERE created_at IS NOT NULL;

CREATE TABLE namespaces (
    namespace INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    checkpoint_ns TEXT NOT NULL,
    UNIQUE (thread, checkpoint_ns)
);

CREATE TABLE checkpoints (
    checkpoint INTEGER PRIMARY KEY,
    namespace INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    parent_id TEXT,
    run_id TEXT,
    caller_id TEXT,
    written_at INTEGER NOT NULL,
    retired INTEGER NOT NULL,      -- 1: removed from sight, but others still read its writes to open_channels
    channels TEXT NOT NULL,        -- JSON [[channel, version], …]
    open_channels TEXT NOT NULL,   -- JSON [channel, …]
    terms BLOB NOT NULL,
    header BLOB NOT NULL,
    UNIQUE (namespace, checkpoint_id)
);
CREATE INDEX checkpoints_by_id ON checkpoints (checkpoint_id);
CREATE INDEX checkpoints_by_run ON checkpoints (run_id) WHERE run_id IS NOT NULL;

CREATE TABLE channel_values (
    namespace INTEGER NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    root BLOB NOT NULL,
    refs BLOB NOT NULL,
    PRIMARY KEY (namespace, channel, version)
) WITHOUT ROWID;

CREATE TABLE writes (
    namespace INTEGER NOT NULL,
    checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    idx INTEGER NOT NULL,
    channel TEXT NOT NULL,
    task_path TEXT NOT NULL,
    questions INTEGER NOT NULL,
    settles INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    root BLOB NOT NULL,
    refs BLOB NOT NULL,
    PRIMARY KEY (namespace, checkpoint_id, task_id, idx)
) WITHOUT ROWID;

-- Bodies may be large: with a rowid they fill pages, without one most would take an overflow page of their own.
CREATE TABLE chunks (
    chunk INTEGER PRIMARY KEY,
    thread INTEGER NOT NULL,
    id BLOB NOT NULL,
    node INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (thread, id)
);

-- The tasks that wait on threads.latest: derived from writes, in the transaction that changes either.
CREATE TABLE waiting (
    thread INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    written_at INTEGER NOT NULL,
    questions INTEGER NOT NULL,
    PRIMARY KEY (thread, task_id)
) WITHOUT ROWID;
CREATE INDEX waiting_by_time ON waiting (written_at);

CREATE VIEW visible_checkpoints AS
SELECT thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels, open_channels, terms, run_id, caller_id, written_at,
       namespace, thread, checkpoint
FROM checkpoints JOIN namespaces USING (namespace) JOIN threads USING (thread)
WHERE NOT retired;

CREATE VIEW listed_threads AS
SELECT threads.thread_id, created_at, updated_at,
       (SELECT total(questions) FROM waiting WHERE waiting.thread = threads.thread) AS questions,
       checkpoint_id, parent_id, header, channels, open_channels, coalesce(terms, x'') AS terms, run_id, caller_id, written_at
FROM threads LEFT JOIN checkpoints ON checkpoint = latest
WHERE created_at IS NOT NULL;
