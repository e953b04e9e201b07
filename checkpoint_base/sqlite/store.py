"""Checkpoint records in SQLite tables. Every operation is one transaction."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar

from checkpoint_base.errors import CheckpointError, CorruptCheckpoint, SchemaMismatch, damage, damage_of
from checkpoint_base.keys import MAX_ID_BYTES, CheckpointKey, NamespaceKey
from checkpoint_base.records import (
    Ancestry,
    ChannelValue,
    ChannelVersion,
    CheckpointRecord,
    Chunk,
    ChunkId,
    InboxQuery,
    InterruptRecord,
    ListQuery,
    Missing,
    StoredCheckpoint,
    ThreadRecord,
    ValueRecord,
    WriteRecord,
    chunks_needed,
)
from checkpoint_base.retention import Choice, Placed, Skeleton, all_but_runs, retain, the_latest, unreachable
from checkpoint_base.sql import statements
from checkpoint_base.sqlite.errors import NOT_UTF8, is_undecodable
from checkpoint_base.sqlite.rows import (
    LAST_TIME,
    blob,
    checkpoint_record,
    hex_texts,
    ids_of,
    json_text,
    listed_checkpoint,
    listed_question,
    names_of,
    other_type,
    pairs_of,
    place_of,
    thread_record,
    time_of,
    value_record,
    write_record,
)
from checkpoint_base.sqlite.transport import Setting, SQLiteTransport, Transaction, attempt
from checkpoint_base.store import THREADS_AT_ONCE, CheckpointStore
from checkpoint_base.transport import Operation, batches

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

_Act: TypeAlias = Callable[[sqlite3.Connection, int], None]
"""Removes something of the thread with this number."""

MIGRATIONS = {100: "schema.sql"}
"""The file with what leads to each version of the tables. Its hundreds are their layout (CONTRIBUTING.md)."""
APPLICATION_ID = 0x43504253
"""Marks a file as ours in its header: "CPBS"."""

_SQL = statements("checkpoint_base.sqlite", "statements.sql")
_FOLDER = files("checkpoint_base.sqlite").joinpath("sql")

# Greater than every id that `keys` admits.
_ABOVE_ALL_IDS = "\U0010ffff" * (MAX_ID_BYTES // 4 + 1)


class SQLiteStore(CheckpointStore):
    """A `CheckpointStore` in one SQLite file, or in memory."""

    def __init__(self, transport: SQLiteTransport) -> None:
        self._transport = transport

    @property
    def transport(self) -> SQLiteTransport:
        return self._transport

    def setup(self) -> Operation[None]:
        version, journal = yield Transaction(lambda db: (self._version(db), _only(db, "PRAGMA journal_mode")))
        if journal not in ("wal", "memory"):
            yield from self._switch_to_wal()
        if version < max(MIGRATIONS):
            yield Transaction(self._migrate, writes=True)

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        return _write(lambda db: _put(db, checkpoint, values, chunks, unchanged))

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        return _write(lambda db: _put_writes(db, key, writes, chunks))

    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        return _read(lambda db: _load(db, key, checkpoint_id))

    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        if query.thread_id is None:
            return _read_of_many(lambda db: _list(db, query))
        return _read(lambda db: _list(db, query))

    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        return _read(lambda db: _ancestry(db, key, checkpoint_id, channels))

    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        return _remove(thread_ids, _delete_thread)

    def delete_runs(self, run_ids: Sequence[str], thread_id: str | None = None) -> Operation[None]:
        """Other writers wait while a batch of threads is done, not until all of them are."""
        act = partial(_retain, choosing=lambda _: all_but_runs(frozenset(run_ids)))

        def begin(db: sqlite3.Connection) -> tuple[Sequence[str], list[str]]:
            found = _threads_of_runs(db, run_ids) if thread_id is None else [thread_id]
            return found[THREADS_AT_ONCE:], _for_each_thread(db, found[:THREADS_AT_ONCE], act)

        left, damaged = yield from _write(begin)
        for some in batches(left, THREADS_AT_ONCE):
            damaged += yield from _write(partial(_for_each_thread, thread_ids=some, act=act))
        _report(damaged)

    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        return _write(lambda db: _copy_thread(db, source, target))

    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        return _remove(thread_ids, partial(_retain, choosing=partial(the_latest, keep)))

    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        return _read_of_many(lambda db: _threads(db, query))

    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        return _read_of_many(lambda db: _interrupts(db, query))

    def _switch_to_wal(self) -> Operation[None]:
        """With a write-ahead log, readers and a writer do not wait for each other, and a commit is one write.

        A file keeps this setting. A copy made by VACUUM INTO does not, and may lie where nobody can write.
        """
        try:
            [(journal,)] = yield Setting("PRAGMA journal_mode = WAL")
        except CheckpointError as error:
            journal, reason = None, f": {error}"
        else:
            reason = ": its file system may not be local"
        if journal != "wal":
            _LOG.warning(
                "%s has no write-ahead log, so its readers and writers wait for each other%s",
                self._transport.path,
                reason,
            )

    def _version(self, db: sqlite3.Connection) -> int:
        """The version of our tables in the file; 0 when it has no tables at all."""
        application = _only(db, "PRAGMA application_id")
        if application == APPLICATION_ID:
            version: int = _only(db, "PRAGMA user_version")
            known = max(MIGRATIONS) // 100
            if version // 100 > known:
                raise SchemaMismatch(
                    f"{self._transport.path} has layout {version // 100}, but this version of checkpoint-backends "
                    f"knows layouts up to {known}: upgrade checkpoint-backends, or open another file"
                )
            return version
        if application or _only(db, "SELECT count(*) FROM sqlite_schema"):
            raise SchemaMismatch(
                f"{self._transport.path} holds another program's tables: choose another file. If that program is "
                "LangGraph's SqliteSaver, `checkpoints import` brings its threads along"
            )
        return 0

    def _migrate(self, db: sqlite3.Connection) -> None:
        found = self._version(db)  # others may have been here meanwhile, even a later version
        for version, file in sorted(MIGRATIONS.items()):
            if version > found:
                for statement in _FOLDER.joinpath(file).read_text(encoding="utf-8").split(";\n"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {version}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _write(work: Callable[[sqlite3.Connection], T]) -> Operation[T]:
    done: T = yield Transaction(work, writes=True)
    return done


def _read(work: Callable[[sqlite3.Connection], T]) -> Operation[T]:
    found: T = yield Transaction(work)
    return found


def _read_of_many(work: Callable[[sqlite3.Connection], T]) -> Operation[T]:
    """Read from many threads, even if some stored text is not UTF-8.

    One such text fails the whole query. So it is read again with replacement characters, and then fails the checksum of
    its own record alone.
    """

    def read(db: sqlite3.Connection) -> T:
        try:
            return work(db)
        except sqlite3.OperationalError as error:
            if not is_undecodable(error):
                raise
        db.text_factory = partial(str, encoding="utf-8", errors="replace")
        try:
            return work(db)
        finally:
            db.text_factory = str

    return _read(read)


# Writing


def _put(
    db: sqlite3.Connection,
    checkpoint: CheckpointRecord,
    values: Sequence[ChannelValue],
    chunks: Mapping[ChunkId, Chunk],
    unchanged: Collection[ChannelVersion],
) -> Missing:
    place = _find_place(db, checkpoint.key.namespace)
    missing = Missing(
        _missing_chunks(db, place[0], (value.value for value in values), chunks),
        _missing_versions(db, place[1], unchanged),
        bool(checkpoint.open_channels and checkpoint.parent_id) and not _can_be_parent(db, place[1], checkpoint),
    )
    if missing:
        return missing
    thread, namespace = _add_place(db, checkpoint.key.namespace, place, checkpoint.written_at)
    _put_chunks(db, thread, chunks)
    db.executemany(
        _SQL.put_value,
        [(namespace, value.channel, value.version, value.value.root, value.value.refs) for value in values],
    )
    db.execute(
        _SQL.put_checkpoint,
        {
            "namespace": namespace,
            "checkpoint_id": checkpoint.key.checkpoint_id,
            "parent_id": checkpoint.parent_id,
            "run_id": checkpoint.run_id,
            "caller_id": checkpoint.caller_id,
            "written_at": checkpoint.written_at,
            "channels": json_text(checkpoint.channels),
            "open_channels": json_text(checkpoint.open_channels),
            "terms": checkpoint.terms,
            "header": checkpoint.header,
        },
    )
    db.execute(_SQL.touch_thread_with_checkpoint, {"thread": thread, "written_at": checkpoint.written_at})
    if checkpoint.key.checkpoint_ns == "":
        _refresh_inbox(db, thread)
    return Missing()


def _put_writes(
    db: sqlite3.Connection, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
) -> Missing:
    space = key.namespace
    place = _find_place(db, space)
    if missing := _missing_chunks(db, place[0], (write.value for write in writes), chunks):
        return Missing(missing)
    written_at = max(write.written_at for write in writes)
    thread, namespace = _add_place(db, space, place, written_at)
    _put_chunks(db, thread, chunks)
    for statement, rows in (
        (_SQL.put_first_write, [write for write in writes if write.idx >= 0]),
        (_SQL.put_last_write, [write for write in writes if write.idx < 0]),
    ):
        db.executemany(
            statement,
            [
                (
                    namespace,
                    key.checkpoint_id,
                    write.task_id,
                    write.idx,
                    write.channel,
                    write.task_path,
                    write.questions,
                    write.settles,
                    write.written_at,
                    write.value.root,
                    write.value.refs,
                )
                for write in rows
            ],
        )
    db.execute(_SQL.touch_thread, {"thread": thread, "written_at": written_at})
    asks = any(write.questions for write in writes)
    if key.checkpoint_ns == "" and (asks or db.execute(_SQL.anyone_waits, {"thread": thread}).fetchone()):
        for task_id in {write.task_id for write in writes}:
            for statement in (_SQL.forget_waiting_task, _SQL.derive_waiting_task):
                db.execute(statement, {"thread": thread, "task_id": task_id})
    return Missing()


def _find_place(db: sqlite3.Connection, key: NamespaceKey) -> tuple[int | None, int | None]:
    """The numbers of a thread and a namespace, or None for what does not exist."""
    row = db.execute(_SQL.find_place, {"thread_id": key.thread_id, "checkpoint_ns": key.checkpoint_ns}).fetchone()
    return row or (None, None)


def _add_place(
    db: sqlite3.Connection, key: NamespaceKey, place: tuple[int | None, int | None], written_at: int
) -> tuple[int, int]:
    """Add the thread or namespace that `_find_place` did not find; return the numbers of both."""
    thread, namespace = place
    if thread is None:
        thread = int(_only(db, _SQL.add_thread, {"thread_id": key.thread_id, "written_at": written_at}))
    if namespace is None:
        namespace = int(_only(db, _SQL.add_namespace, {"thread": thread, "checkpoint_ns": key.checkpoint_ns}))
    return thread, namespace


def _missing_chunks(
    db: sqlite3.Connection, thread: int | None, values: Iterable[ValueRecord], chunks: Mapping[ChunkId, Chunk]
) -> frozenset[ChunkId]:
    """The ids of chunks that the values need and that are neither among ``chunks`` nor stored."""
    needed = chunks_needed(values, chunks)
    if not needed:
        return frozenset()
    return frozenset(id_ for (id_,) in db.execute(_SQL.missing_chunks, {"thread": thread, "ids": b"".join(needed)}))


def _missing_versions(
    db: sqlite3.Connection, namespace: int | None, pairs: Collection[ChannelVersion]
) -> frozenset[ChannelVersion]:
    """The (channel, version) pairs without a stored value."""
    if not pairs:
        return frozenset()
    found = db.execute(_SQL.missing_versions, {"namespace": namespace, "channels": json_text(list(pairs))}).fetchall()
    return frozenset(pairs_of(f"[{', '.join(pair for (pair,) in found)}]"))


def _can_be_parent(db: sqlite3.Connection, namespace: int | None, checkpoint: CheckpointRecord) -> bool:
    """Whether a checkpoint's open channels can be rebuilt from its parent, which keeps only some writes if retired."""
    place = {"namespace": namespace, "checkpoint_id": checkpoint.parent_id}
    parent = db.execute(_SQL.find_parent, place).fetchone()
    if parent is None:
        return False
    retired, kept_channels = parent
    return not retired or set(checkpoint.open_channels) <= set(names_of(kept_channels))


def _put_chunks(db: sqlite3.Connection, thread: int, chunks: Mapping[ChunkId, Chunk]) -> None:
    db.executemany(_SQL.put_chunk, [(thread, *chunk) for chunk in chunks.values()])


def _refresh_inbox(db: sqlite3.Connection, thread: int) -> None:
    """Recompute which checkpoint of the thread is the latest, and which of its tasks wait."""
    for statement in (_SQL.refresh_latest, _SQL.forget_waiting, _SQL.derive_waiting):
        db.execute(statement, {"thread": thread})


# Reading


def _load(db: sqlite3.Connection, key: NamespaceKey, checkpoint_id: str | None) -> StoredCheckpoint | None:
    row = db.execute(
        _SQL.load_checkpoint if checkpoint_id else _SQL.load_latest,
        {"thread_id": key.thread_id, "checkpoint_ns": key.checkpoint_ns, "checkpoint_id": checkpoint_id},
    ).fetchone()
    return _with_contents(db, [row], checkpoint_record)[0] if row else None


def _list(db: sqlite3.Connection, query: ListQuery) -> Sequence[StoredCheckpoint]:
    below = query.before or _ABOVE_ALL_IDS
    if query.after:
        # Other threads or namespaces may have the same id. No id contains NUL, so nothing lies in between.
        below = min(below, f"{query.after.checkpoint_id}\0")
    bounds = {
        "checkpoint_id": query.checkpoint_id,
        "below": below,
        "after_id": query.after.checkpoint_id if query.after else _ABOVE_ALL_IDS,
        "after_thread": query.after.thread_id if query.after else "",
        "after_ns": query.after.checkpoint_ns if query.after else "",
        "terms": hex_texts(query.terms),
        "limit": query.limit,
    }
    if query.thread_id is None:
        statement = _SQL.list_everything
    elif query.checkpoint_ns is None:
        statement, bounds["thread_id"] = _SQL.list_thread, query.thread_id
    else:
        statement = _SQL.list_namespace
        bounds |= {"thread_id": query.thread_id, "checkpoint_ns": query.checkpoint_ns}
        if query.after:
            bounds["below"] = min(below, query.after.checkpoint_id)
    rows = db.execute(statement, bounds).fetchall()
    read = listed_checkpoint if query.thread_id is None else checkpoint_record
    if query.contents:
        return _with_contents(db, rows, read)
    return [StoredCheckpoint(read(row), {}, (), {}) for row in rows]


def _ancestry(
    db: sqlite3.Connection, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]
) -> Ancestry:
    if checkpoint_id is None:
        latest = db.execute(
            _SQL.load_latest, {"thread_id": key.thread_id, "checkpoint_ns": key.checkpoint_ns}
        ).fetchone()
        if latest is None:
            return Ancestry()
        checkpoint_id = checkpoint_record(latest).key.checkpoint_id
    target = db.execute(
        _SQL.target_of_ancestry,
        {"thread_id": key.thread_id, "checkpoint_ns": key.checkpoint_ns, "checkpoint_id": checkpoint_id},
    ).fetchone()
    if target is None:
        return Ancestry()
    namespace, thread = target
    open_channels = set(channels)
    writes: list[tuple[WriteRecord, ...]] = []
    seeds: dict[str, ValueRecord] = {}
    for ancestor_id, versions in _ancestors(db, namespace, checkpoint_id):
        if not open_channels:
            break
        rows = db.execute(
            _SQL.load_writes_to_channels,
            {
                "namespace": namespace,
                "checkpoint_id": ancestor_id,
                "channels": json_text(sorted(open_channels)),
            },
        )
        writes.append(tuple(write_record(row) for row in rows))
        for channel in sorted(open_channels & versions.keys()):
            value = db.execute(_SQL.load_value, (namespace, channel, versions[channel])).fetchone()
            if value is not None:
                seeds[channel] = value_record(*value)
                open_channels.discard(channel)
    values = [*seeds.values(), *(write.value for generation in writes for write in generation)]
    return Ancestry(tuple(writes), seeds, _load_chunks(db, thread, values))


def _ancestors(db: sqlite3.Connection, namespace: int, checkpoint_id: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The ids and channels of a checkpoint's ancestors, nearest first, each looked up when it is asked for."""
    passed = set()
    for ancestor_id, channels in db.execute(_SQL.ancestors, {"namespace": namespace, "checkpoint_id": checkpoint_id}):
        if ancestor_id in passed:  # a ring: callers may name any parent
            return
        passed.add(ancestor_id)
        if ancestor_id != checkpoint_id:
            yield ancestor_id, dict(pairs_of(channels))


def _threads(db: sqlite3.Connection, query: InboxQuery) -> Sequence[ThreadRecord]:
    statement = _SQL.threads_newest if query.order == "newest" else _SQL.threads_oldest
    rows = db.execute(_SQL.thread_by_id if query.thread_id else statement, _inbox_bounds(query)).fetchall()
    found = [thread_record(row) for row in rows]
    return found if query.thread_id is None else query.page(found)


def _interrupts(db: sqlite3.Connection, query: InboxQuery) -> Sequence[InterruptRecord]:
    if query.thread_id is None:
        statement = _SQL.interrupts_newest if query.order == "newest" else _SQL.interrupts_oldest
        rows = db.execute(statement, _inbox_bounds(query)).fetchall()
    else:
        waiting = db.execute(_SQL.waiting_tasks_of_thread, {"thread_id": query.thread_id}).fetchall()
        positions = ((time_of(written_at), str(thread_id), str(task_id)) for written_at, thread_id, task_id in waiting)
        page = sorted(filter(query.is_behind, positions), reverse=query.order == "newest")[: query.limit]
        tasks = json_text([task_id for _, _, task_id in page])
        rows = db.execute(_SQL.interrupts_of_tasks, {**_inbox_bounds(query), "tasks": tasks}).fetchall()
    found = []
    for row in rows:
        write, newest = listed_question(row[:9]), row[9:]
        thread, _ = place_of(newest)
        found.append(InterruptRecord(listed_checkpoint(newest), write, _load_chunks(db, thread, [write.value])))
    return found if query.thread_id is None else query.page(found)


def _inbox_bounds(query: InboxQuery) -> dict[str, Any]:
    beginning = (LAST_TIME, "", "") if query.order == "newest" else (-LAST_TIME, "", "")
    time, thread_id, task_id = query.after or beginning
    return {
        "thread_id": query.thread_id,
        "terms": hex_texts(query.terms),
        "after_time": time,
        "after_thread": thread_id,
        "after_task": task_id,
        "limit": query.limit,
    }


def _with_contents(
    db: sqlite3.Connection, rows: Sequence[Sequence[Any]], read: Callable[[Sequence[Any]], CheckpointRecord]
) -> Sequence[StoredCheckpoint]:
    """Load the values and writes of checkpoints, and each chunk once, however many of them share it."""
    contents = []
    values_of_thread: dict[int, list[ValueRecord]] = {}
    for row in rows:
        record, (thread, namespace) = read(row), place_of(row)
        stored = db.execute(_SQL.load_values, {"namespace": namespace, "channels": json_text(record.channels)})
        values = {channel: value_record(root, refs) for channel, root, refs in stored.fetchall()}
        place = {"namespace": namespace, "checkpoint_id": record.key.checkpoint_id}
        with damage_of(record.key.thread_id):
            writes = tuple(write_record(write) for write in db.execute(_SQL.load_writes, place).fetchall())
        contents.append((record, values, writes, thread))
        values_of_thread.setdefault(thread, []).extend((*values.values(), *(write.value for write in writes)))
    chunks = {thread: _load_chunks(db, thread, values) for thread, values in values_of_thread.items()}
    return [StoredCheckpoint(record, values, writes, chunks[thread]) for record, values, writes, thread in contents]


def _load_chunks(db: sqlite3.Connection, thread: int, values: Iterable[ValueRecord]) -> dict[ChunkId, Chunk]:
    """Every chunk that the values consist of, with one query for each level of nodes."""
    chunks: dict[ChunkId, Chunk] = {}
    wanted = {id_ for value in values for id_ in value.chunk_ids}
    while wanted:
        rows = db.execute(_SQL.load_chunks, {"thread": thread, "ids": b"".join(wanted)})
        found = [Chunk(id_, blob(body), node) for id_, body, node in rows]
        chunks.update((chunk.id, chunk) for chunk in found)
        wanted = {id_ for chunk in found if chunk.node for id_ in chunk.children if id_ not in chunks}
    return chunks


# Removing and copying


def _remove(thread_ids: Sequence[str], act: _Act) -> Operation[None]:
    """Remove something of each thread. A damaged thread keeps everything, and is reported when the others are done."""
    damaged = yield from _write(lambda db: _for_each_thread(db, thread_ids, act))
    _report(damaged)


def _report(damaged: Sequence[str]) -> None:
    if damaged:
        raise damage(f"nothing was removed from damaged threads, the others are done: {'; '.join(damaged)}")


def _for_each_thread(db: sqlite3.Connection, thread_ids: Sequence[str], act: _Act) -> list[str]:
    """Act on each thread on its own; return what is damaged."""
    damages = (_act_on(db, thread_id, act) for thread_id in thread_ids)
    return [damage for damage in damages if damage is not None]


def _act_on(db: sqlite3.Connection, thread_id: str, act: _Act) -> str | None:
    """Act on a thread. If it is damaged, do nothing and return what is wrong."""
    thread = _only(db, _SQL.find_thread, {"thread_id": thread_id})
    if thread is None:
        return None
    _, error = attempt(db, lambda db: act(db, thread))
    if error is None:
        return None
    if is_undecodable(error):
        return f"thread {thread_id!r}: {NOT_UTF8}"
    if isinstance(error, CorruptCheckpoint):
        return f"thread {thread_id!r}: {error}"
    raise error


def _delete_thread(db: sqlite3.Connection, thread: int) -> None:
    for statement in _SQL.delete_thread.split(";\n"):
        db.execute(statement, {"thread": thread})


def _threads_of_runs(db: sqlite3.Connection, run_ids: Collection[str]) -> Sequence[str]:
    found = {id_ for run_id in run_ids for (id_,) in db.execute(_SQL.threads_of_run, {"run_id": run_id}).fetchall()}
    return sorted(found, key=str)  # damage may have made bytes of one


def _copy_thread(db: sqlite3.Connection, source: str, target: str) -> bool:
    ids = {"source": source, "target": target}
    if _only(db, _SQL.find_thread, {"thread_id": source}) is None:
        return True
    if db.execute(_SQL.checkpoint_only_in_target, ids).fetchone():
        return False
    for statement in _SQL.copy_thread.split(";\n"):
        db.execute(statement, ids)
    _refresh_inbox(db, _only(db, _SQL.find_thread, {"thread_id": target}))
    return True


def _retain(db: sqlite3.Connection, thread: int, choosing: Callable[[Iterable[Placed]], Choice]) -> None:
    """Remove the visible checkpoints of a thread that are not chosen, and what only they needed.

    ``choosing`` is told all checkpoints of the thread.
    """
    checkpoints = db.execute(_SQL.checkpoints_of_thread, {"thread": thread}).fetchall()
    if not all(type(id_) is str for _, id_, _, _ in checkpoints):
        raise other_type("a checkpoint")
    choose = choosing(checkpoints)
    for (namespace,) in db.execute(_SQL.namespaces_of_thread, {"thread": thread}).fetchall():
        skeletons = {
            id_: Skeleton(
                parent_id, run_id, caller_id, dict(pairs_of(channels)), frozenset(names_of(opened)), bool(retired)
            )
            for id_, parent_id, run_id, caller_id, channels, opened, retired in db.execute(
                _SQL.skeletons, {"namespace": namespace}
            ).fetchall()
        }
        stored = set(db.execute(_SQL.value_versions, {"namespace": namespace}).fetchall())
        decided = retain(skeletons, stored, choose)
        for id_ in decided.removed:
            db.execute(_SQL.remove_checkpoint, (namespace, id_))
            db.execute(_SQL.remove_writes, (namespace, id_))
        for id_, names in decided.retired.items():
            channels = json_text(sorted(names))
            db.execute(_SQL.retire_checkpoint, (channels, namespace, id_))
            db.execute(_SQL.remove_writes_to_other_channels, (namespace, id_, channels))
        db.executemany(_SQL.remove_value, [(namespace, *version) for version in decided.values])
    if not db.execute(_SQL.any_content, {"thread": thread}).fetchone():
        _delete_thread(db, thread)
        return
    _collect_chunks(db, thread)
    _refresh_inbox(db, thread)
    db.execute(_SQL.forget_creation_without_checkpoint, {"thread": thread})


def _collect_chunks(db: sqlite3.Connection, thread: int) -> None:
    """Remove the chunks of a thread that no value or write needs any more."""
    children = {id_: ids_of(body) for id_, body in db.execute(_SQL.chunks_of_thread, {"thread": thread}).fetchall()}
    references = (id_ for (refs,) in db.execute(_SQL.references_of_thread, {"thread": thread}) for id_ in ids_of(refs))
    db.executemany(_SQL.remove_chunk, [(thread, id_) for id_ in unreachable(children, references)])


def _only(db: sqlite3.Connection, statement: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The first column of the first row, or None."""
    row = db.execute(statement, parameters or {}).fetchone()
    return row[0] if row else None
