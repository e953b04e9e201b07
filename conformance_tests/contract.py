"""The contract: what a LangGraph checkpointer has to do, in clauses that can be tested.

`docs/contract.md` is written from this module (``python -m conformance_tests.contract``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Capability(StrEnum):
    """What a saver may declare. A declared capability is tested in full; one that is not declared is only reported."""

    SYNC = "sync"
    ASYNC = "async"
    COPY = "copy_thread"
    PRUNE = "prune"
    RUNS = "delete_for_runs"
    DELTA = "delta"
    PROCESSES = "processes"
    LOOPS = "event_loops"
    INTERRUPTS = "interrupts"
    THREADS = "threads"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Capability.SYNC: "the methods without `a`: graphs that are invoked",
    Capability.ASYNC: "the methods with `a`: graphs that are awaited",
    Capability.COPY: "`copy_thread`",
    Capability.PRUNE: "`prune`",
    Capability.RUNS: "`delete_for_runs`",
    Capability.DELTA: "graphs with a `DeltaChannel`, whose state is rebuilt from ancestors' writes",
    Capability.PROCESSES: "several processes on one storage; the factory can be imported by name",
    Capability.LOOPS: "one saver on several event loops",
    Capability.INTERRUPTS: "`interrupts()`, an extension of this project",
    Capability.THREADS: "`threads()`, an extension of this project",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """One numbered sentence of the contract.

    ``title`` is its name in messages, ``says`` the sentence, ``why`` its reason or source, ``needs`` the capabilities
    without which it does not apply; with none it is required of every saver.
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
            "Callers repeat a put whose answer got lost.",
        ),
        Clause(
            "PUT-3",
            "parent",
            "The `checkpoint_id` of the config given to `put` is the stored checkpoint's parent; without one it has "
            "none.",
            "Time travel and delta channels follow the parents.",
        ),
        Clause(
            "PUT-4",
            "metadata",
            "Metadata is stored together with the config's metadata and the scalar entries of its `configurable`, "
            "except ids and names that begin with two underscores; what `put` was given wins.",
            "`get_checkpoint_metadata` of langgraph-checkpoint; users filter on these entries.",
        ),
        Clause(
            "PUT-5",
            "unchanged channels",
            "A channel that is not in `new_versions` is found by its version, whichever checkpoint stored that.",
            "LangGraph passes only what changed; the rest must not be lost, nor stored again.",
        ),
        Clause(
            "PUT-6",
            "absent channels",
            "A channel without a version in the checkpoint, or without a value at its version, is absent when read.",
            "An empty channel is not the same as one that holds None.",
        ),
        Clause(
            "PUT-7",
            "default namespace",
            "What is put to the root namespace, the empty text, is found with a config that has no `checkpoint_ns`.",
            "LangGraph names it in every put and write, and reads with the config that a person wrote.",
        ),
        Clause(
            "PUT-8",
            "arguments",
            "`put`, `put_writes`, `get_tuple` and `list` leave their arguments as they were.",
            "The graph goes on using them, also while they are stored.",
        ),
        Clause(
            "PUT-9",
            "whole or not at all",
            "A `put` that raises has stored nothing: what was the latest checkpoint still is, and is unchanged.",
            "Half a checkpoint is worse than none: the graph would resume from it.",
        ),
        Clause(
            "WRITES-1",
            "round trip",
            "A write comes back among its checkpoint's `pending_writes` as `(task_id, channel, value)`.",
            "The results of finished tasks are kept while others of the super-step fail or wait.",
        ),
        Clause(
            "WRITES-2",
            "before the checkpoint",
            "Writes may be stored before their checkpoint and are there once it is; `put` neither hides nor resets them.",
            "LangGraph does not order the two: measured with durability `async`, writes came first every time.",
        ),
        Clause(
            "WRITES-3",
            "first wins",
            "An ordinary write is identified by task and position; storing it again changes nothing.",
            "A repeated call must not replace what another may have read.",
        ),
        Clause(
            "WRITES-4",
            "last wins",
            "A write to a special channel (error, scheduled, interrupt, resume) replaces the task's earlier one.",
            "`WRITES_IDX_MAP` of langgraph-checkpoint; a node's second question replaces its first.",
        ),
        Clause(
            "WRITES-5",
            "mixed calls",
            "In a call with ordinary and special channels each write follows its own rule.",
            "LangGraph sends both together when a resumed task finishes.",
        ),
        Clause(
            "WRITES-6",
            "growing calls",
            "When a task's writes are sent again with more behind them, the new ones are added.",
            "The null task's writes are sent cumulatively; deduplicating by task loses the later ones.",
        ),
        Clause(
            "WRITES-7",
            "order",
            "`pending_writes` are ordered by `writes_sort_key`: task path, task id, position.",
            "langgraph-checkpoint 4.3; reducers that depend on order rebuild another value otherwise.",
        ),
        Clause(
            "WRITES-8",
            "place",
            "Writes belong to one checkpoint of one namespace of one thread and are seen nowhere else.",
            "A write seen on the next checkpoint would be applied twice.",
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
            "A thread, namespace or checkpoint that does not exist gives None and not an error.",
            "Every first run of a thread asks for it.",
        ),
        Clause(
            "GET-2",
            "latest",
            "Without a `checkpoint_id` the result is the checkpoint with the greatest id, whichever was put last.",
            "Ids are ordered by time; background saves may finish in another order.",
        ),
        Clause(
            "GET-3",
            "by id",
            "With a `checkpoint_id` the result is that checkpoint, however many came after it.",
            "Time travel.",
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
            "A checkpoint is found in its own namespace only.",
            "Subgraphs keep their state beside their parent's.",
        ),
        Clause(
            "GET-6",
            "every field",
            "A checkpoint comes back with all of its fields, `v`, `ts` and `updated_channels` too.",
            "`get_state` shows `ts` as the time of a state, and a resumed graph plans its next step by `updated_channels`.",
        ),
        Clause(
            "LIST-1",
            "order",
            "What is listed is listed by descending id.",
            "The newest state is the first that a person looks for.",
        ),
        Clause(
            "LIST-2", "before", "`before` lists ids that are smaller than its own only.", "Paging through a history."
        ),
        Clause(
            "LIST-3",
            "limit",
            "`limit` bounds how many are listed; 0 lists none and None lists all.",
            "Paging through a history.",
        ),
        Clause(
            "LIST-4",
            "filter",
            "`filter` lists the checkpoints whose metadata equals all of its entries, whatever their keys and types.",
            "A filter that silently ignores an entry answers another question.",
        ),
        Clause(
            "LIST-5",
            "combined",
            "`filter`, `before` and `limit` apply together, the limit last.",
            "Limiting before filtering loses matches.",
        ),
        Clause(
            "LIST-6",
            "everything",
            "A config of None lists the checkpoints of every thread, with `filter`, `before` and `limit` as in one.",
            "Administration; langgraph-checkpoint's base class allows it.",
        ),
        Clause(
            "LIST-7",
            "namespaces",
            "A config with `checkpoint_ns` lists that namespace, one without lists all of the thread.",
            "As InMemorySaver does.",
        ),
        Clause(
            "LIST-8",
            "one checkpoint",
            "A config with a `checkpoint_id` lists that checkpoint only.",
            "As InMemorySaver does.",
        ),
        Clause(
            "LIST-9",
            "calls inside the loop",
            "The saver can be called while a listing is being consumed.",
            "The obvious loop; it deadlocks where a listing holds a lock or the only connection.",
        ),
        Clause(
            "LIST-10",
            "complete tuples",
            "A listed tuple equals what `get_tuple` returns for its config, values and writes included.",
            "`get_state_history` is built from it.",
        ),
        Clause(
            "LIST-11",
            "long histories",
            "A listing is complete and in order however long it is.",
            "Stores page; pages must neither overlap nor leave gaps.",
        ),
        Clause(
            "LIST-12",
            "hostile filters",
            "Keys and values of a filter are data: they list exactly what equals them, or are refused, and break nothing.",
            "CVE-2025-67644, CVE-2025-8709: SQL injection through filter keys. A refusal is safe; LIST-4 counts it.",
        ),
        Clause(
            "FORK-1",
            "next version",
            "`get_next_version` follows every version it is given, None included.",
            "LangGraph decides by comparison which channels are new.",
        ),
        Clause(
            "FORK-2",
            "branches",
            "Two branches from one checkpoint keep their own values, also for channels that changed in both.",
            "Plain counters give both branches the same version, and one overwrites the other.",
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
            "A graph that paused at an `interrupt()` resumes through another handle with the answer, and nothing that "
            "had finished runs again.",
            "What a checkpointer is for.",
        ),
        Clause(
            "INTERRUPT-2",
            "parallel questions",
            "Questions of parallel tasks can be answered one at a time, in any order.",
            "The answered task's result waits as pending writes for the others.",
        ),
        Clause(
            "INTERRUPT-3",
            "several in one node",
            "A node that asks several questions receives its earlier answers again when it resumes.",
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
            "Its calls are tasks of their own with nested paths.",
        ),
        Clause(
            "INTERRUPT-6",
            "the inbox is the truth",
            "`interrupts(thread_id=…)` lists exactly the questions of `graph.get_state(config).interrupts`, after every step.",
            "A question shown twice or after its answer is worse than no inbox. Not tested: tasks that wait and that "
            "`get_state` of langgraph 1.2.22 overlooks (of an error handler, of a `goto` beside waiting tasks).",
            (_C.INTERRUPTS,),
        ),
        Clause(
            "INTERRUPT-7",
            "order and pages",
            "`interrupts` lists by time in either order; pages joined by cursors give the same list as one listing.",
            "An inbox is worked through page by page.",
            (_C.INTERRUPTS,),
        ),
        Clause(
            "INTERRUPT-8",
            "filters of the inbox",
            "`interrupts` with `metadata=` lists those whose checkpoint's metadata equals all entries.",
            "Inboxes belong to teams and tenants.",
            (_C.INTERRUPTS,),
        ),
        Clause(
            "INTERRUPT-9",
            "threads",
            "`threads` gives every thread with its times, the step and metadata of its latest root checkpoint, and the "
            "number of its pending interrupts.",
            "Operators look for threads, not for checkpoints.",
            (_C.THREADS,),
        ),
        Clause(
            "INTERRUPT-10",
            "order and pages of threads",
            "`threads` lists by last change in either order, with filters and pages like `interrupts`.",
            "Operators go through them page by page.",
            (_C.THREADS,),
        ),
        Clause(
            "DELTA-1",
            "state",
            "A graph with a `DeltaChannel` reads the same state through another handle at every step.",
            "Most steps store no value of it.",
            (_C.DELTA,),
        ),
        Clause(
            "DELTA-2",
            "order of history",
            "`get_delta_channel_history` gives the ancestors' writes oldest first, each checkpoint's by "
            "`writes_sort_key`, without those of the checkpoint itself.",
            "Reducers need not be commutative.",
            (_C.DELTA,),
        ),
        Clause(
            "DELTA-3",
            "seed",
            "The history begins with the nearest ancestor's stored value, as `seed`, and the writes since; it has no "
            "`seed` when no ancestor stored one.",
            "langgraph-checkpoint's contract of the method.",
            (_C.DELTA,),
        ),
        Clause(
            "DELTA-4",
            "forks",
            "The history follows parents, never siblings.",
            "A listing with `before` would mix branches.",
            (_C.DELTA,),
        ),
        Clause(
            "DELETE-1",
            "everything",
            "`delete_thread` removes every checkpoint and write of the thread, in every namespace.",
            "A person's data must go when it has to.",
        ),
        Clause(
            "DELETE-2",
            "nothing else",
            "`delete_thread` touches no other thread, however its id reads.",
            "Deleting `*` destroyed every thread's index in one saver of the field.",
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
            "`copy_thread` copies every checkpoint with its values, writes, metadata, parents and namespaces.",
            "langgraph-checkpoint: the complete chain.",
            (_C.COPY,),
        ),
        Clause(
            "COPY-2",
            "independence",
            "Source and copy do not change with each other, also when one is deleted.",
            "Copies are made to try things.",
            (_C.COPY,),
        ),
        Clause(
            "COPY-3",
            "missing and repeated",
            "Copying a missing thread copies nothing; copying again changes nothing; a target loses nothing of its own.",
            "Copies are repeated after lost answers.",
            (_C.COPY,),
        ),
        Clause(
            "COPY-4",
            "delta channels",
            "The state of a copied thread's delta channels is the source's.",
            "langgraph-checkpoint warns of copies without the ancestors.",
            (_C.COPY, _C.DELTA),
        ),
        Clause(
            "PRUNE-1",
            "keep_latest",
            "`prune` keeps the latest checkpoint of every namespace with all its values and writes, and lists no other.",
            "langgraph-checkpoint's strategy `keep_latest`.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-2",
            "delete",
            "`prune` with strategy `delete` removes the threads.",
            "langgraph-checkpoint's strategy `delete`.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-3",
            "nothing else",
            "`prune` touches only the threads it is given; missing ones are no error.",
            "Pruning runs unattended.",
            (_C.PRUNE,),
        ),
        Clause(
            "PRUNE-4",
            "unknown strategy",
            "An unknown strategy raises, and nothing is removed.",
            "A misspelt strategy must not delete.",
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
            "The state of delta channels is the same after `prune`, and stays so while the thread goes on.",
            "Their ancestors' writes are load-bearing.",
            (_C.PRUNE, _C.DELTA),
        ),
        Clause(
            "PRUNE-7",
            "a run that goes on",
            "A run that goes on while its thread is pruned keeps its writes and its whole state, also what did not "
            "change since the checkpoint it began from; or `put` raises.",
            "Pruning runs unattended, and does not know which threads are running.",
            (_C.PRUNE,),
        ),
        Clause(
            "RUNS-1",
            "everything",
            "`delete_for_runs` removes the checkpoints with these `run_id`s and their writes, in all threads and "
            "namespaces.",
            "langgraph-checkpoint's contract of the method.",
            (_C.RUNS,),
        ),
        Clause(
            "RUNS-2",
            "nothing else",
            "Checkpoints of other runs keep all their values, also those that a deleted run had stored.",
            "A value belongs to its version, not to the run that wrote it.",
            (_C.RUNS,),
        ),
        Clause("RUNS-3", "missing", "No runs, or unknown ones, are no error.", "Deletions are repeated.", (_C.RUNS,)),
        Clause(
            "RUNS-4",
            "delta channels",
            "The state of delta channels of the remaining checkpoints is the same after `delete_for_runs`.",
            "Their ancestors' writes are load-bearing.",
            (_C.RUNS, _C.DELTA),
        ),
        Clause(
            "FIDELITY-1",
            "texts and numbers",
            "Any text and number comes back equal and of the same type, or `put` raises and stores nothing.",
            "NUL, lone surrogates, NaN, infinities, -0.0, 1e16 and large integers were all changed by some saver.",
        ),
        Clause(
            "FIDELITY-2",
            "containers",
            "Tuples, sets, bytes, dicts with other keys than text and any nesting come back equal and of the same types, "
            "or `put` raises and stores nothing.",
            "A tuple that becomes a list breaks a graph on its second day.",
        ),
        Clause(
            "FIDELITY-3",
            "library types",
            "Dates with their time zones, decimals, UUIDs and enum members come back equal and of the same type, or "
            "`put` raises and stores nothing.",
            "StrEnum and IntEnum members came back as plain text and numbers.",
        ),
        Clause(
            "FIDELITY-4",
            "objects",
            "Dataclasses, pydantic models and messages come back equal and of the same type with all they hold, or "
            "`put` raises and stores nothing.",
            "They are what states are made of.",
        ),
        Clause("FIDELITY-5", "writes", "The same holds for the values of writes.", "Writes become state."),
        Clause("FIDELITY-6", "metadata", "The same holds for metadata.", "Users keep their own entries there."),
        Clause(
            "FIDELITY-7",
            "channel names",
            "Any channel name comes back as it was, or `put` raises and stores nothing.",
            "A backslash in a name broke every later listing of one saver.",
        ),
        Clause(
            "FIDELITY-8",
            "large values",
            "Values of several megabytes, and lists that grow and are edited in the middle, come back exactly.",
            "Savers that store values in pieces must join them again.",
        ),
        Clause(
            "FIDELITY-9",
            "no shared objects",
            "What is stored stays as it was, whatever becomes of the objects that the saver was given or gave out.",
            "Nodes change lists and messages in place; a saver that keeps references changes its history with them.",
        ),
        Clause(
            "IDS-1",
            "separators",
            "Ids that differ only in separators, wildcards, case, or composed characters are different ids.",
            "Keys joined by an unescaped colon collide.",
        ),
        Clause(
            "IDS-2",
            "numbers",
            "What is put with an integer `thread_id` is found with it by every reading method.",
            "It could be put and never read in one saver. Whether its text names the same thread is not asked.",
        ),
        Clause(
            "IDS-3",
            "missing thread",
            "`put`, `put_writes` and `get_tuple` raise for a config without a `thread_id`, and nothing is stored.",
            "State without a thread cannot be found again.",
        ),
        Clause(
            "IDS-4",
            "impossible ids",
            "An id with NUL or a lone surrogate, an empty one, or one of 10,000 characters is refused or kept exactly, "
            "never changed.",
            "A changed id is another thread's.",
        ),
        Clause(
            "IDS-5",
            "long namespaces",
            "Namespaces as long as deeply nested subgraphs make them work.",
            "`node:uuid|node:uuid|…` grows by 40 characters a level.",
        ),
        Clause(
            "CONCURRENCY-1",
            "many threads",
            "Any number of threads may use one saver at once; nothing is lost or mixed up.",
            "Graphs run their nodes, and servers their graphs, in worker threads.",
        ),
        Clause(
            "CONCURRENCY-2",
            "one thread_id",
            "Checkpoints and writes put at once to one thread are all there, and the greatest id is the latest.",
            "Two workers on one thread lose nothing.",
        ),
        Clause(
            "CONCURRENCY-3",
            "one winner",
            "Of ordinary writes put at once under one task and position exactly one is kept, the same for every reader.",
            "Two workers may finish the same task.",
        ),
        Clause(
            "CONCURRENCY-4",
            "event loops",
            "One saver works on several event loops, at once and one after the other.",
            "Servers and notebooks have more than one. LangGraph itself awaits a saver on the loop of its graph only.",
            (_C.LOOPS,),
        ),
        Clause(
            "CONCURRENCY-5",
            "sync inside a loop",
            "The sync methods work on a thread whose event loop is running.",
            "Sync nodes and tools are called from async graphs.",
            (_C.SYNC,),
        ),
        Clause(
            "CONCURRENCY-6",
            "clones",
            "A shallow copy of the saver works, together with the original.",
            "`with_allowlist` clones a saver with `copy.copy`.",
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
            "When a process is killed before, during or after any call to the saver, another one resumes the thread to the same "
            "final state.",
            "What was acknowledged is there; what was not is done again.",
            (_C.PROCESSES,),
        ),
        Clause(
            "CRASH-2",
            "finished tasks",
            "A task whose writes were acknowledged before the kill does not run again.",
            "Its side effects happened.",
            (_C.PROCESSES,),
        ),
        Clause(
            "LIFECYCLE-1",
            "setting up",
            "Opening the same storage again, and many times at once, is no error and changes nothing; nor is `setup()`, "
            "where a saver has it.",
            "Every worker does so when it starts, the first ones on an empty storage.",
        ),
        Clause(
            "LIFECYCLE-2",
            "reopening",
            "What was stored is there when the storage is opened again after every handle was closed.",
            "That is persistence.",
        ),
        Clause(
            "LIFECYCLE-3",
            "colours",
            "What one colour stored, the other reads.",
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
            "It is the field's own suite.",
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
        "What `conformance_tests` tests, clause by clause. A clause that names capabilities applies to savers "
        "that declare them; every other clause is required.",
        "",
        "| capability | what it declares |",
        "| --- | --- |",
        *(f"| `{capability}` | {capability.meaning} |" for capability in Capability),
    ]
    for area, title in AREAS.items():
        lines += ["", f"## {area}: {title}", "", "| clause | says | why | needs |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {clause.id} {clause.title} | {clause.says} | {clause.why} | "
            f"{', '.join(f'`{need}`' for need in clause.needs)} |"
            for clause in CLAUSES.values()
            if clause.area == area
        ]
    return "\n".join(lines).replace("`node:uuid|node:uuid|…`", r"`node:uuid\|node:uuid\|…`") + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
