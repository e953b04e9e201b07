-- Layout 1. Every primary key begins with thread_id, so that the tables can be partitioned by its hash or distributed
-- by it. Ids compare by code point (COLLATE "C"), whatever the collation of the database is. Times are microseconds
-- since 1970-01-01 UTC. In keys, where long texts do not fit, `ns` stands for a namespace: empty for the root graph,
-- otherwise a digest of checkpoint_ns. What the saver should compress is compressed already: STORAGE EXTERNAL keeps
-- PostgreSQL from trying again.

CREATE TABLE {schema}.threads (
    thread_id text COLLATE "C" PRIMARY KEY,
    created_at bigint,              -- NULL until the first checkpoint: writes may come before it
    updated_at bigint NOT NULL,
    latest text COLLATE "C"         -- the greatest visible checkpoint_id of the root namespace
) WITH (fillfactor = 50);
CREATE INDEX threads_by_time ON {schema}.threads (updated_at, thread_id) WHERE created_at IS NOT NULL;

CREATE TABLE {schema}.checkpoints (
    thread_id text COLLATE "C" NOT NULL,
    ns bytea NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    checkpoint_ns text COLLATE "C" NOT NULL,
    parent_id text COLLATE "C",
    run_id text COLLATE "C",
    caller_id text COLLATE "C",     -- of a subgraph's call: the checkpoint of another namespace at which it began
    written_at bigint NOT NULL,
    retired boolean NOT NULL,       -- no longer visible, but descendants still need its writes to open_channels
    channels text[] COLLATE "C" NOT NULL,
    versions text[] COLLATE "C" NOT NULL,   -- of channels, in their order
    open_channels text[] COLLATE "C" NOT NULL,
    terms bigint[] NOT NULL,
    header bytea NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id)
);
ALTER TABLE {schema}.checkpoints ALTER header SET STORAGE EXTERNAL;
-- So that the planner can tell rare terms from common ones. With the default of 100, its estimates for terms in between
-- were off by a factor of 50.
ALTER TABLE {schema}.checkpoints ALTER terms SET STATISTICS 1000;
-- For a page of all threads, and for one of a thread in all its namespaces, of which it may have thousands. They are in
-- the order of ~<~, which means the same as <, but serves no query for the latest checkpoint of a namespace: a server that
-- believes that there is one thread only, or one namespace, would take them for as good as the primary key. For the same
-- reason the first one does not hold thread_id: it would seem as good for reading all of a thread.
-- The second one adds 3 % to the server's work for a put, and 100 bytes.
CREATE INDEX checkpoints_by_id ON {schema}.checkpoints (checkpoint_id text_pattern_ops);
CREATE INDEX checkpoints_by_thread ON {schema}.checkpoints (thread_id, checkpoint_id text_pattern_ops);
-- For filters across threads. It adds only 3 % to the server's work for a put, measured on 100,000 checkpoints, because
-- new entries go to a pending list first. Readers scan that list as well, so its size is limited (in KB).
CREATE INDEX checkpoints_by_term ON {schema}.checkpoints USING gin (terms) WITH (gin_pending_list_limit = 256);
-- A hash, because a run_id may have any length.
CREATE INDEX checkpoints_by_run ON {schema}.checkpoints (hashtextextended(run_id, 0)) WHERE run_id IS NOT NULL;

CREATE TABLE {schema}.channel_values (
    thread_id text COLLATE "C" NOT NULL,
    ns bytea NOT NULL,
    channel text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    root bytea NOT NULL,
    refs bytea NOT NULL,            -- ids of chunks, concatenated
    PRIMARY KEY (thread_id, ns, channel, version)
);
ALTER TABLE {schema}.channel_values ALTER root SET STORAGE EXTERNAL, ALTER refs SET STORAGE EXTERNAL;

CREATE TABLE {schema}.writes (
    thread_id text COLLATE "C" NOT NULL,
    ns bytea NOT NULL,
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    idx integer NOT NULL,
    questions integer NOT NULL,
    settles boolean NOT NULL,
    written_at bigint NOT NULL,
    channel text COLLATE "C" NOT NULL,
    task_path text COLLATE "C" NOT NULL,
    root bytea NOT NULL,
    refs bytea NOT NULL,
    PRIMARY KEY (thread_id, ns, checkpoint_id, task_id, idx)
);
ALTER TABLE {schema}.writes ALTER root SET STORAGE EXTERNAL, ALTER refs SET STORAGE EXTERNAL;

-- A leaf has up to 8 KB. In its row, reading it takes one page; out of line, it would take several.
CREATE TABLE {schema}.chunks (
    thread_id text COLLATE "C" NOT NULL,
    id bytea NOT NULL,
    node boolean NOT NULL,
    body bytea NOT NULL,            -- of a node: ids of chunks, concatenated
    PRIMARY KEY (thread_id, id)
) WITH (toast_tuple_target = 8160);
ALTER TABLE {schema}.chunks ALTER body SET STORAGE EXTERNAL;

-- The tasks that wait for an answer on threads.latest. Derived from writes, in each transaction that changes either.
CREATE TABLE {schema}.waiting (
    thread_id text COLLATE "C" NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    written_at bigint NOT NULL,
    questions integer NOT NULL,
    PRIMARY KEY (thread_id, task_id)
);
CREATE INDEX waiting_by_time ON {schema}.waiting (written_at, thread_id, task_id);
