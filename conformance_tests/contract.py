"""The contract: what a LangGraph checkpointer must do, in clauses that can be tested.

`docs/contract.md` is written from this module (``python -m conformance_tests.contract``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Capability(StrEnum):
    """What a saver may declare. A declared capability is tested in full; one that is missing is only reported."""

    SYNC = "sync"
    ASYNC = "async"
    COPY_THREAD = "copy_thread"
    PRUNE = "prune"
    PRUNE_KEEP = "prune_keep"
    PRUNE_CALLS = "prune_calls"
    DELETE_FOR_RUNS = "delete_for_runs"
    DELTA = "delta"
    PROCESSES = "processes"
    EVENT_LOOPS = "event_loops"
    INTERRUPTS = "interrupts"
    THREADS = "threads"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Capability.SYNC: "the sync methods, which `graph.invoke` calls",
    Capability.ASYNC: "the async methods, which `graph.ainvoke` calls",
    Capability.COPY_THREAD: "`copy_thread`",
    Capability.PRUNE: "`prune`",
    Capability.PRUNE_KEEP: "`prune(…, keep=N)`, an extension of this project",
    Capability.PRUNE_CALLS: "`prune` of calls of subgraphs that have ended, an extension of this project",
    Capability.DELETE_FOR_RUNS: "`delete_for_runs`",
    Capability.DELTA: "graphs with a `DeltaChannel`, whose value is rebuilt from ancestors' writes",
    Capability.PROCESSES: "several processes on one storage; they import the factory by name",
    Capability.EVENT_LOOPS: "one saver on several event loops",
    Capability.INTERRUPTS: "`interrupts()`, an extension of this project",
    Capability.THREADS: "`threads()`, an extension of this project",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One numbered requirement of the contract.

    ``title`` is its name in messages, ``says`` the requirement, and ``why`` its reason or source. It applies to savers
    that declare every capability in ``needs``; if there are none, it applies to every saver.
    """

    id: str
    title: str
    says: str
    why: str
    needs: tuple[Capability, ...] = ()

    @property
    def area(self) -> str:
        return self.id.partition("-")[0]


AREAS = {
    "PUT": "Storing checkpoints",
    "WRITES": "Storing pending writes",
    "GET": "Finding a checkpoint",
    "LIST": "Listing checkpoints",
    "FORK": "Forks and time travel",
    "INTERRUPT": "Interrupts and threads",
    "DELTA": "Delta channels",
    "DELETE": "Deleting threads",
    "COPY": "Copying threads",
    "PRUNE": "Pruning threads",
    "RUNS": "Deleting runs",
    "FIDELITY": "Values come back as they were",
    "IDS": "Ids",
    "CONCURRENCY": "Many callers at once",
    "PROCESS": "Several processes",
    "CRASH": "Killed processes",
    "LIFECYCLE": "Opening and closing",
    "LANGGRAPH": "LangGraph's own suite",
}

_C = Capability

CLAUSES: dict[str, Clause] = {
    clause.id: clause
    for clause in (
        Clause(
            "PUT-1",
            "config",
            "`put` returns a config that names the thread, the namespace and the id of the checkpoint it stored.",
            "The graph passes it on as the parent of the next checkpoint.",
        ),
        Clause(
            "PUT-2",
            "idempotency",
            "A checkpoint that is put twice is stored once.",
            "A caller that lost the answer to a put repeats it.",
        ),
        Clause(
            "PUT-3",
            "parent",
            "The parent of a stored checkpoint is the `checkpoint_id` of the config that `put` was given; "
            "without one, the checkpoint has no parent.",
            "Time travel and delta channels follow the parents.",
        ),
        Clause(
            "PUT-4",
            "metadata",
            "The stored metadata is that given to `put`, extended by the scalar entries of the config's "
            "`metadata` and then of its `configurable`; the first to have a key wins. Entries of the config "
            "that are in `EXCLUDED_METADATA_KEYS` (ids, and what LangGraph adds) or begin with two "
            "underscores are left out.",
            "`get_checkpoint_metadata` of langgraph-checkpoint does so, and users filter by these entries.",
        ),
        Clause(
            "PUT-5",
            "unchanged channels",
            "A channel that is not in `new_versions` has the value that was stored at its version, whichever "
            "checkpoint stored it.",
            "LangGraph passes only what changed. The rest must be neither lost nor stored again.",
        ),
        Clause(
            "PUT-6",
            "absent channels",
            "A channel without a version in the checkpoint, or without a value at its version, is absent when read.",
            "An empty channel is not the same as a channel that holds None.",
        ),
        Clause(
            "PUT-7",
            "default namespace",
            "What is put to the root namespace (the empty string) is found by a config without `checkpoint_ns`.",
            "LangGraph names the namespace in every put and write, but people read with configs that they "
            "wrote themselves.",
        ),
        Clause(
            "PUT-8",
            "arguments",
            "`put`, `put_writes`, `get_tuple` and `list` do not change their arguments.",
            "The graph goes on using them, even while they are being stored.",
        ),
        Clause(
            "PUT-9",
            "whole or not at all",
            "A `put` that raises stores nothing: the latest checkpoint is the same as before, and unchanged.",
            "Half a checkpoint is worse than none, because the graph would resume from it.",
        ),
        Clause(
            "WRITES-1",
            "round trip",
            "A write comes back in its checkpoint's `pending_writes` as `(task_id, channel, value)`.",
            "The results of finished tasks are kept while other tasks of the super-step fail or wait.",
        ),
        Clause(
            "WRITES-2",
            "before the checkpoint",
            "Writes may be stored before their checkpoint, and are there once it is. `put` neither hides nor "
            "removes them.",
            "LangGraph does not order the two calls. With durability `async`, the writes came first every "
            "time that we measured.",
        ),
        Clause(
            "WRITES-3",
            "first wins",
            "An ordinary write is identified by its task and its position in the call. A later write with the "
            "same task and position is ignored.",
            "A repeated call must not replace what somebody may have read.",
        ),
        Clause(
            "WRITES-4",
            "last wins",
            "A write to a special channel (error, scheduled, interrupt, resume) replaces the task's earlier "
            "write to that channel.",
            "`WRITES_IDX_MAP` of langgraph-checkpoint. A node's second question replaces its first.",
        ),
        Clause(
            "WRITES-5",
            "mixed calls",
            "In a call with both ordinary and special channels, each write follows the rule of its own kind.",
            "LangGraph sends both together when a resumed task finishes.",
        ),
        Clause(
            "WRITES-6",
            "growing calls",
            "When a task's writes are sent again, followed by further ones, the further ones are added.",
            "LangGraph sends the null task's writes cumulatively; a saver that deduplicates by task loses the "
            "later ones.",
        ),
        Clause(
            "WRITES-7",
            "order",
            "`pending_writes` are ordered by `writes_sort_key`: task path, task id, position.",
            "langgraph-checkpoint 4.3. In another order, a reducer that depends on the order rebuilds another value.",
        ),
        Clause(
            "WRITES-8",
            "place",
            "Writes belong to one checkpoint of one namespace of one thread, and are seen nowhere else.",
            "A write that was also seen on the next checkpoint would be applied twice.",
        ),
        Clause(
            "WRITES-9",
            "nothing to write",
            "An empty list of writes is accepted and changes nothing.",
            "Nodes may return nothing.",
        ),
        Clause(
            "GET-1",
            "missing",
            "`get_tuple` returns None for a thread, namespace or checkpoint that does not exist; it does not raise.",
            "The first run of every thread asks for one.",
        ),
        Clause(
            "GET-2",
            "latest",
            "Without a `checkpoint_id`, the result is the checkpoint with the greatest id, whichever was put last. "
            "Ids are compared as Python compares text.",
            "Ids are ordered by time, but background saves may finish in another order.",
        ),
        Clause(
            "GET-3",
            "by id",
            "With a `checkpoint_id`, the result is that checkpoint, however many came after it.",
            "Time travel needs it.",
        ),
        Clause(
            "GET-4",
            "versions",
            "`channel_versions` and `versions_seen` come back equal, with versions of the same type.",
            "LangGraph compares versions to decide which nodes run.",
        ),
        Clause(
            "GET-5",
            "namespaces",
            "A checkpoint is found only in its own namespace.",
            "Subgraphs keep their state in the same thread as their parent.",
        ),
        Clause(
            "GET-6",
            "every field",
            "A checkpoint comes back with all of its fields, including `v`, `ts` and `updated_channels`.",
            "`get_state` shows `ts` as the time of a state, and a resumed graph plans its next step by `updated_channels`.",
        ),
        Clause(
            "LIST-1",
            "order",
            "A listing is ordered by descending checkpoint id.",
            "People look for the newest state first.",
        ),
        Clause(
            "LIST-2",
            "before",
            "`before` lists only checkpoints whose id is smaller than its `checkpoint_id`.",
            "Histories are read page by page.",
        ),
        Clause(
            "LIST-3",
            "limit",
            "`limit` bounds how many checkpoints are listed; 0 lists none, and None lists all.",
            "Histories are read page by page.",
        ),
        Clause(
            "LIST-4",
            "filter",
            "`filter` lists the checkpoints whose metadata equals every entry of the filter, whatever the "
            "keys and types.",
            "A filter that silently ignores an entry answers another question.",
        ),
        Clause(
            "LIST-5",
            "combined",
            "`filter`, `before` and `limit` apply together, `limit` last.",
            "Limiting before filtering loses matches.",
        ),
        Clause(
            "LIST-6",
            "everything",
            "A config of None lists the checkpoints of all threads; `filter`, `before` and `limit` work as "
            "for one thread.",
            "Administrators need it, and langgraph-checkpoint's base class allows it.",
        ),
        Clause(
            "LIST-7",
            "namespaces",
            "A config with a `checkpoint_ns` lists that namespace; a config without one lists the whole thread.",
            "InMemorySaver does so.",
        ),
        Clause(
            "LIST-8",
            "one checkpoint",
            "A config with a `checkpoint_id` lists only that checkpoint.",
            "InMemorySaver does so.",
        ),
        Clause(
            "LIST-9",
            "calls inside the loop",
            "The saver can be called while a listing is being consumed.",
            "It is the obvious loop to write, and it deadlocks if a listing holds a lock or the only connection.",
        ),
        Clause(
            "LIST-10",
            "complete tuples",
            "A listed tuple equals what `get_tuple` returns for its config, including values and writes.",
            "`get_state_history` is built from listed tuples.",
        ),
        Clause(
            "LIST-11",
            "long histories",
            "A listing is complete and in order, however long it is.",
            "Stores read page by page, and the pages must neither overlap nor leave gaps.",
        ),
        Clause(
            "LIST-12",
            "hostile filters",
            "The keys and values of a filter are data. A filter lists exactly what equals it or is refused, "
            "and breaks nothing.",
            "CVE-2025-67644, CVE-2025-8709: SQL injection through filter keys. A refusal is safe and passes "
            "here; LIST-4 counts it as a failure.",
        ),
        Clause(
            "FORK-1",
            "next version",
            "`get_next_version` returns a greater version than the one it is given, which may be None.",
            "LangGraph compares versions to see which channels are new.",
        ),
        Clause(
            "FORK-2",
            "branches",
            "Two branches of one checkpoint keep their own values, even of a channel that changed in both.",
            "A plain counter gives both branches the same version, and one overwrites the other.",
        ),
        Clause(
            "FORK-3",
            "time travel",
            "A graph that is run from an older checkpoint continues from that state.",
            "`get_state_history` and `invoke` with a `checkpoint_id`.",
        ),
        Clause(
            "INTERRUPT-1",
            "pause and resume",
            "A graph that paused at an `interrupt()` resumes with the answer through another handle, and "
            "nothing that had finished runs again.",
            "This is what a checkpointer is for.",
        ),
        Clause(
            "INTERRUPT-2",
            "parallel questions",
            "Questions of parallel tasks can be answered one at a time, in any order.",
            "The results of answered tasks are kept as pending writes until the other tasks have finished.",
        ),
        Clause(
            "INTERRUPT-3",
            "several in one node",
            "A node that asks several questions receives its earlier answers again whenever it resumes.",
            "RESUME writes are a growing list under one special index.",
        ),
        Clause(
            "INTERRUPT-4",
            "subgraphs",
            "A question inside a subgraph resumes there, with the subgraph's own state.",
            "Subgraphs have namespaces of their own.",
        ),
        Clause(
            "INTERRUPT-5",
            "functional API",
            "An `@entrypoint` with `@task`s pauses and resumes without running finished tasks again.",
            "The calls of its tasks are themselves tasks, with nested paths.",
        ),
        Clause(
            "INTERRUPT-6",
            "the inbox is the truth",
            "After every step, `interrupts(thread_id=…)` lists exactly the questions in "
            "`graph.get_state(config).interrupts`, each once and with its `response_schema`.",
            "A question that is shown twice, or after its answer, is worse than no inbox. Not tested: waiting "
            "tasks that `get_state` of langgraph 1.2.22 overlooks, namely an error handler that asks, and a "
            "task that `invoke(Command(goto=…))` started.",
            (_C.INTERRUPTS,),
        ),
        Clause(
            "INTERRUPT-7",
            "order and pages",
            "`interrupts` lists by time, oldest or newest first. Pages that are joined by cursors equal one "
            "whole listing.",
            "An inbox is worked through page by page.",
            (_C.INTERRUPTS,),
        ),
        Clause(
            "INTERRUPT-8",
            "filters of the inbox",
            "`interrupts` with `metadata=` lists the questions whose checkpoint's metadata equals every entry.",
            "Inboxes belong to teams and tenants.",
            (_C.INTERRUPTS,),
        ),
        Clause(
            "INTERRUPT-9",
            "threads",
            "`threads` lists every thread with the times of its first and last change, the step and metadata "
            "of its latest root checkpoint, and the number of its pending interrupts.",
            "Operators look for threads, not for checkpoints.",
            (_C.THREADS,),
        ),
        Clause(
            "INTERRUPT-10",
            "order and pages of threads",
            "`threads` lists by last change, oldest or newest first, with filters and pages like those of "
            "`interrupts`.",
            "Operators go through threads page by page.",
            (_C.THREADS,),
        ),
        Clause(
            "DELTA-1",
            "state",
            "A graph with a `DeltaChannel` has the same state at every step when it is read through another handle.",
            "At most steps, no value of the channel is stored.",
            (_C.DELTA,),
        ),
        Clause(
            "DELTA-2",
            "order of history",
            "`get_delta_channel_history` returns the ancestors' writes, oldest checkpoint first and within a "
            "checkpoint by `writes_sort_key`. The checkpoint's own writes are not among them.",
            "Reducers need not be commutative.",
            (_C.DELTA,),
        ),
        Clause(
            "DELTA-3",
            "seed",
            "The history has the value that the nearest ancestor stored, as `seed`, and the writes from that "
            "ancestor on. If no ancestor stored a value, it has no `seed`.",
            "langgraph-checkpoint's contract of the method.",
            (_C.DELTA,),
        ),
        Clause(
            "DELTA-4",
            "forks",
            "The history follows parents, never siblings.",
            "A saver that lists with `before` would mix branches.",
            (_C.DELTA,),
        ),
        Clause(
            "DELETE-1",
            "everything",
            "`delete_thread` removes every checkpoint and write of the thread, in every namespace.",
            "When a person's data has to go, all of it has to go.",
        ),
        Clause(
            "DELETE-2",
            "nothing else",
            "`delete_thread` touches no other thread, whatever characters the id has.",
            "In one published saver, deleting `*` destroyed the index of every thread.",
        ),
        Clause("DELETE-3", "missing", "Deleting a thread that does not exist is no error.", "Deletions are repeated."),
        Clause(
            "DELETE-4",
            "fresh start",
            "A deleted thread that is used again starts empty.",
            "Nothing old may come back.",
        ),
        Clause(
            "COPY-1",
            "everything",
            "`copy_thread` copies every checkpoint, with its values, writes, metadata, parent and namespace.",
            "langgraph-checkpoint asks for the complete chain of checkpoints.",
            (_C.COPY_THREAD,),
        ),
        Clause(
            "COPY-2",
            "independence",
            "Source and copy are independent: changing or deleting one leaves the other as it was.",
            "Copies are made to try things out.",
            (_C.COPY_THREAD,),
        ),
        Clause(
            "COPY-3",
            "missing and repeated",
            "Copying a missing thread copies nothing. Copying again changes nothing. The target loses nothing "
            "of its own.",
            "A caller that lost the answer to a copy repeats it.",
            (_C.COPY_THREAD,),
        ),
        Clause(
            "COPY-4",
            "delta channels",
            "The delta channels of a copied thread have the same state as those of the source.",
            "langgraph-checkpoint warns of copies without the ancestors.",
            (_C.COPY_THREAD, _C.DELTA),
        ),
        Clause(
            "PRUNE-1",
            "keep_latest",
            "`prune` keeps the latest checkpoint of every namespace, with all its values and writes; only what a call "
            "of a subgraph stored may go with the checkpoint at which the call began. No other checkpoint of the thread "
            "is found or listed any more.",
            "langgraph-checkpoint's strategy `keep_latest`.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-2",
            "delete",
            "`prune` with the strategy `delete` removes the threads.",
            "langgraph-checkpoint's strategy `delete`.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-3",
            "nothing else",
            "`prune` touches only the threads it is given; a missing thread is no error.",
            "Pruning runs unattended.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-4",
            "unknown strategy",
            "An unknown strategy raises, and nothing is removed.",
            "A misspelt strategy must not delete anything.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-5",
            "a waiting thread",
            "A thread that waits at an interrupt still resumes after it was pruned.",
            "Waiting threads are the ones that live long.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-6",
            "delta channels",
            "The state of delta channels is the same after `prune`, and stays right as the thread continues.",
            "It is rebuilt from the ancestors' writes, so pruning must not lose those.",
            (_C.PRUNE, _C.DELTA),
        ),
        Clause(
            "PRUNE-7",
            "a run that goes on",
            "A run that continues while its thread is pruned keeps its writes and its whole state, including "
            "what has not changed since the checkpoint it started from; or else `put` raises.",
            "Pruning runs unattended, and does not know which threads are running.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-8",
            "keep several",
            "`prune` with `keep=N` keeps the latest N checkpoints of every namespace as they were, delta channels "
            "included. A number below 1, or any other than 1 with the strategy `delete`, raises, and nothing is removed.",
            "What a run did last can be undone, and yet a thread does not grow for ever.",
            (_C.PRUNE, _C.PRUNE_KEEP),
        ),
        Clause(
            "PRUNE-9",
            "ended calls",
            "What a call of a subgraph stored goes with the checkpoint at which the call began, but for what a subgraph "
            "remembers.",
            "Every call has a namespace of its own, which nothing resumes once the call has ended.",
            (_C.PRUNE, _C.PRUNE_CALLS),
        ),
        Clause(
            "RUNS-1",
            "everything",
            "`delete_for_runs` removes the checkpoints that have one of the `run_id`s, and their writes, in "
            "all threads and namespaces.",
            "langgraph-checkpoint's contract of the method.",
            (_C.DELETE_FOR_RUNS,),
        ),
        Clause(
            "RUNS-2",
            "nothing else",
            "Checkpoints of other runs keep all their values, even those that a deleted run had stored.",
            "A value belongs to its version, not to the run that wrote it.",
            (_C.DELETE_FOR_RUNS,),
        ),
        Clause(
            "RUNS-3",
            "missing",
            "An empty list of runs, or an unknown run, is no error.",
            "Deletions are repeated.",
            (_C.DELETE_FOR_RUNS,),
        ),
        Clause(
            "RUNS-4",
            "delta channels",
            "The delta channels of the remaining checkpoints have the same state after `delete_for_runs`.",
            "It is rebuilt from the ancestors' writes, so deleting runs must not lose those.",
            (_C.DELETE_FOR_RUNS, _C.DELTA),
        ),
        Clause(
            "FIDELITY-1",
            "texts and numbers",
            "Any text and any number comes back equal and of the same type, or `put` raises and stores nothing.",
            "Savers have changed NUL, lone surrogates, NaN, infinities, -0.0, 1e16 and large integers.",
        ),
        Clause(
            "FIDELITY-2",
            "containers",
            "Tuples, sets, bytes, dicts whose keys are not text, and any nesting of these come back equal and "
            "of the same types, or `put` raises and stores nothing.",
            "A tuple that becomes a list breaks the graph after it is resumed.",
        ),
        Clause(
            "FIDELITY-3",
            "library types",
            "Dates with their time zones, decimals, UUIDs and enum members come back equal and of the same type, or "
            "`put` raises and stores nothing.",
            "Savers have returned StrEnum and IntEnum members as plain text and numbers.",
        ),
        Clause(
            "FIDELITY-4",
            "objects",
            "Dataclasses, pydantic models and messages come back equal and of the same type, with everything "
            "they hold, or `put` raises and stores nothing.",
            "States are made of them.",
        ),
        Clause(
            "FIDELITY-5",
            "writes",
            "Values of writes come back as FIDELITY-1 to 4 say, or `put_writes` raises and stores nothing.",
            "Writes become state.",
        ),
        Clause(
            "FIDELITY-6",
            "metadata",
            "Metadata comes back as FIDELITY-1 to 4 say, names included, or `put` raises and stores nothing.",
            "Users keep entries of their own there.",
        ),
        Clause(
            "FIDELITY-7",
            "channel names",
            "Any channel name comes back as it was, or the call raises and stores nothing.",
            "In one saver, a backslash in a name broke every later listing.",
        ),
        Clause(
            "FIDELITY-8",
            "large values",
            "Values of several megabytes, and lists that grow and are edited in the middle, come back exactly.",
            "A saver that stores values in pieces must join them again.",
        ),
        Clause(
            "FIDELITY-9",
            "no shared objects",
            "What is stored stays as it was, whatever happens to the objects that the saver was given or returned.",
            "Nodes change lists and messages in place. A saver that keeps references to them changes its history, too.",
        ),
        Clause(
            "IDS-1",
            "separators",
            "Ids that differ only in separators, wildcards, case or composed characters are different ids.",
            "Keys that are joined by an unescaped colon collide.",
        ),
        Clause(
            "IDS-2",
            "numbers",
            "What is put with an integer `thread_id` is found with the same integer by every reading method.",
            "In one saver it could be put but never read. Whether the integer as text names the same thread "
            "is not tested.",
        ),
        Clause(
            "IDS-3",
            "missing thread",
            "`put`, `put_writes` and `get_tuple` raise for a config without a `thread_id`, and store nothing.",
            "State without a thread cannot be found again.",
        ),
        Clause(
            "IDS-4",
            "impossible ids",
            "An id that has NUL or a lone surrogate, is empty, or has 10,000 characters is either refused or "
            "kept exactly; it is never changed. So are long ids that differ in the last character only.",
            "A changed id may be another thread's.",
        ),
        Clause(
            "IDS-5",
            "long namespaces",
            "Namespaces as long as those of deeply nested subgraphs work.",
            "`node:uuid|node:uuid|…` grows by more than 40 characters with each level.",
        ),
        Clause(
            "CONCURRENCY-1",
            "many threads",
            "Any number of threads may use one saver at once; nothing is lost or mixed up.",
            "Graphs run their nodes, and servers run their graphs, in worker threads.",
        ),
        Clause(
            "CONCURRENCY-2",
            "one thread_id",
            "Checkpoints and writes that are put to one thread at once are all there, and the greatest id is "
            "the latest. Whoever reads meanwhile sees all of a call or nothing of it.",
            "Two workers on one thread must lose nothing, and must not go on from half a checkpoint.",
        ),
        Clause(
            "CONCURRENCY-3",
            "one winner",
            "When several callers put an ordinary write for the same task and position at once, exactly one "
            "write is kept, and every reader sees that one.",
            "Two workers may finish the same task.",
        ),
        Clause(
            "CONCURRENCY-4",
            "event loops",
            "One saver works on several event loops, both at once and one after the other.",
            "Servers and notebooks have more than one. LangGraph itself awaits a saver only on the loop of its graph.",
            (_C.EVENT_LOOPS,),
        ),
        Clause(
            "CONCURRENCY-5",
            "sync inside a loop",
            "The sync methods work on a thread whose event loop is running.",
            "Async graphs call sync nodes and tools.",
            (_C.SYNC,),
        ),
        Clause(
            "CONCURRENCY-6",
            "clones",
            "A shallow copy of the saver works, together with the original.",
            "`with_allowlist` clones a saver with `copy.copy`.",
        ),
        Clause(
            "CONCURRENCY-7",
            "cancelled calls",
            "An async call that is cancelled has stored all or nothing, and the saver works as before.",
            "A client that hangs up cancels the run of its graph. Savers have kept a lock, or a connection on which "
            "a command was still in progress.",
            (_C.ASYNC,),
        ),
        Clause(
            "PROCESS-1",
            "another process",
            "A graph that paused in one process resumes in another.",
            "People answer days later.",
            (_C.PROCESSES,),
        ),
        Clause(
            "PROCESS-2",
            "at once",
            "Several processes that write to one storage at once lose nothing and get no errors.",
            "Services run many workers.",
            (_C.PROCESSES,),
        ),
        Clause(
            "CRASH-1",
            "killed at any moment",
            "When a process is killed before, during or after any call to the saver, another process resumes "
            "the thread to the same final state.",
            "What was acknowledged is there; what was not is done again.",
            (_C.PROCESSES,),
        ),
        Clause(
            "CRASH-2",
            "finished tasks",
            "A task whose writes were acknowledged before the kill does not run again.",
            "Its side effects have already happened.",
            (_C.PROCESSES,),
        ),
        Clause(
            "LIFECYCLE-1",
            "setting up",
            "Opening the same storage again, or many times at once, is no error and changes nothing. The same "
            "holds for `setup()`, if the saver has it.",
            "Every worker does so when it starts, and the first ones do so on an empty storage.",
        ),
        Clause(
            "LIFECYCLE-2",
            "reopening",
            "After every handle was closed, everything stored is there when the storage is opened again.",
            "That is persistence.",
        ),
        Clause(
            "LIFECYCLE-3",
            "colours",
            "What the sync methods stored, the async methods read, and vice versa.",
            "A batch job and a web service share their threads.",
        ),
        Clause(
            "LIFECYCLE-4",
            "any sequence",
            "Any sequence of operations leaves exactly what a simple model of the contract predicts.",
            "Defects hide in the order of operations.",
        ),
        Clause(
            "LANGGRAPH-1",
            "conformance",
            "`langgraph-checkpoint-conformance` passes for every capability that is declared.",
            "It is LangGraph's own suite.",
        ),
    )
}


def markdown() -> str:
    """The contract as a page."""
    lines = [
        "# The contract of a checkpointer",
        "",
        "<!-- Written by `python -m conformance_tests.contract`; edit conformance_tests/contract.py instead. -->",
        "",
        "What `conformance_tests` tests, clause by clause. A clause that needs capabilities applies to savers that "
        "declare all of them; every other clause applies to every saver.",
        "",
        "| capability | what a saver declares with it |",
        "| --- | --- |",
        *(f"| `{capability}` | {capability.meaning} |" for capability in Capability),
    ]
    for area, title in AREAS.items():
        lines += [
            "",
            f"## {area}: {title}",
            "",
            "| clause | requirement | reason | needs |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {clause.id} {clause.title} | {clause.says} | {clause.why} | "
            f"{', '.join(f'`{need}`' for need in clause.needs)} |"
            for clause in CLAUSES.values()
            if clause.area == area
        ]
    return "\n".join(lines).replace("`node:uuid|node:uuid|…`", r"`node:uuid\|node:uuid\|…`") + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
