"""Checkpoint records in dictionaries. Every operation is one request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from checkpoint_base import CheckpointStore
from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.metadata import has_terms
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
from checkpoint_base.retention import ended_calls
from checkpoint_base.transport import Operation

from .transport import Change, DictTransport, Read

Place: TypeAlias = tuple[str, str]
"""A namespace, and the id of a checkpoint in it."""

Version: TypeAlias = tuple[str, str, str]
"""A namespace, a channel in it, and one of its versions."""


@dataclass(frozen=True, slots=True)
class Thread:
    """Everything that belongs to one thread. It never changes; a changed copy replaces it."""

    created_at: int | None = None  # None while there are only writes, which may precede their checkpoint
    updated_at: int = 0
    checkpoints: Mapping[Place, CheckpointRecord] = field(default_factory=dict)
    retired: Mapping[Place, CheckpointRecord] = field(default_factory=dict)  # ignored where `checkpoints` has one
    values: Mapping[Version, ValueRecord] = field(default_factory=dict)
    writes: Mapping[Place, Mapping[tuple[str, int], WriteRecord]] = field(default_factory=dict)
    chunks: Mapping[ChunkId, Chunk] = field(default_factory=dict)


Threads: TypeAlias = dict[str, Thread]

_NOTHING = Thread()


class DictStore(CheckpointStore):
    """A `CheckpointStore` in dictionaries that all stores of this process with the same name share."""

    def __init__(self, name: str) -> None:
        self._transport = DictTransport(name)

    @property
    def transport(self) -> DictTransport:
        return self._transport

    def setup(self) -> Operation[None]:
        yield Read()  # there is nothing to create, but this raises at once if the saver is closed

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        thread_id, namespace = checkpoint.key.thread_id, checkpoint.key.checkpoint_ns

        def work(threads: Threads) -> Missing:
            thread = threads.get(thread_id, _NOTHING)
            missing = Missing(
                _missing_chunks(thread, [each.value for each in values], chunks),
                frozenset(pair for pair in unchanged if (namespace, *pair) not in thread.values),
                bool(checkpoint.open_channels and checkpoint.parent_id) and not _can_be_parent(thread, checkpoint),
            )
            if missing:
                return missing
            threads[thread_id] = replace(
                thread,
                created_at=checkpoint.written_at if thread.created_at is None else thread.created_at,
                updated_at=max(thread.updated_at, checkpoint.written_at),
                checkpoints={**thread.checkpoints, _place(checkpoint.key): checkpoint},
                values={**thread.values, **{(namespace, each.channel, each.version): each.value for each in values}},
                chunks={**thread.chunks, **chunks},
            )
            return missing

        missing: Missing = yield Change(work)
        return missing

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        def work(threads: Threads) -> Missing:
            thread = threads.get(key.thread_id, _NOTHING)
            missing = Missing(_missing_chunks(thread, [write.value for write in writes], chunks))
            if missing:
                return missing
            first_wins = {(write.task_id, write.idx): write for write in writes if write.idx >= 0}
            last_wins = {(write.task_id, write.idx): write for write in writes if write.idx < 0}
            stored = thread.writes.get(_place(key), {})
            threads[key.thread_id] = replace(
                thread,
                updated_at=max([thread.updated_at, *(write.written_at for write in writes)]),
                writes={**thread.writes, _place(key): {**first_wins, **stored, **last_wins}},
                chunks={**thread.chunks, **chunks},
            )
            return missing

        missing: Missing = yield Change(work)
        return missing

    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        threads: Threads = yield Read()
        thread = threads.get(key.thread_id, _NOTHING)
        record = thread.checkpoints.get((key.checkpoint_ns, checkpoint_id or _latest_id(thread, key.checkpoint_ns)))
        return _with_contents(thread, record) if record else None

    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        threads: Threads = yield Read()
        found = [
            record
            for thread in _chosen(threads, query.thread_id).values()
            for record in thread.checkpoints.values()
            if query.checkpoint_ns in (None, record.key.checkpoint_ns)
            and query.checkpoint_id in (None, record.key.checkpoint_id)
            and (query.before is None or record.key.checkpoint_id < query.before)
            and (query.after is None or record.key.list_order < query.after.list_order)
            and has_terms(record.terms, query.terms)
        ]
        found.sort(key=lambda record: record.key.list_order, reverse=True)
        page = found[: query.limit]
        if not query.contents:
            return [StoredCheckpoint(record, {}, (), {}) for record in page]
        return [_with_contents(threads[record.key.thread_id], record) for record in page]

    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        threads: Threads = yield Read()
        thread = threads.get(key.thread_id, _NOTHING)
        open_channels = set(channels)
        writes: list[tuple[WriteRecord, ...]] = []
        seeds: dict[str, ValueRecord] = {}
        for ancestor in _ancestors(thread, (key.checkpoint_ns, checkpoint_id or _latest_id(thread, key.checkpoint_ns))):
            if not open_channels:
                break
            stored = thread.writes.get(_place(ancestor.key), {})
            writes.append(tuple(write for write in stored.values() if write.channel in open_channels))
            for version in _stored_versions(thread, ancestor, open_channels):
                seeds[version[1]] = thread.values[version]
            open_channels -= seeds.keys()
        return Ancestry(tuple(writes), seeds, thread.chunks)

    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        def work(threads: Threads) -> None:
            for thread_id in thread_ids:
                threads.pop(thread_id, None)

        yield Change(work)

    def delete_runs(self, run_ids: Sequence[str], thread_id: str | None = None) -> Operation[None]:
        def work(threads: Threads) -> None:
            for id_, thread in [*_chosen(threads, thread_id).items()]:
                kept = {place for place, record in thread.checkpoints.items() if record.run_id not in run_ids}
                if len(kept) < len(thread.checkpoints):
                    _retain(threads, id_, kept)

        yield Change(work)

    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        def work(threads: Threads) -> bool:
            theirs, ours = threads.get(source), threads.get(target, _NOTHING)
            if theirs is None:
                return True
            if ours.checkpoints.keys() - theirs.checkpoints.keys():
                return False
            threads[target] = Thread(
                created_at=theirs.created_at,
                updated_at=max(theirs.updated_at, ours.updated_at),
                checkpoints=_renamed(theirs.checkpoints, target),
                retired={**ours.retired, **_renamed(theirs.retired, target)},
                values={**theirs.values, **ours.values},
                writes={
                    place: {**theirs.writes.get(place, {}), **ours.writes.get(place, {})}
                    for place in theirs.writes.keys() | ours.writes.keys()
                },
                chunks={**theirs.chunks, **ours.chunks},
            )
            return True

        copied: bool = yield Change(work)
        return copied

    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        def work(threads: Threads) -> None:
            for thread_id in thread_ids:
                thread = threads.get(thread_id, _NOTHING)
                visible = [(*place, record.caller_id, True) for place, record in sorted(thread.checkpoints.items())]
                retired = [(*place, record.caller_id, False) for place, record in thread.retired.items()]
                ends = ended_calls(keep, [*visible, *retired])
                by_namespace = [[*here] for _, here in groupby(visible, itemgetter(0))]
                latest = (here[-keep:] for here in by_namespace if not ends(each[1:3] for each in here))
                _retain(threads, thread_id, {each[:2] for here in latest for each in here})

        yield Change(work)

    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        threads: Threads = yield Read()
        found = []
        for thread_id, thread in _chosen(threads, query.thread_id).items():
            latest = thread.checkpoints.get(("", _latest_id(thread, "")))
            if thread.created_at is not None and has_terms(latest.terms if latest else b"", query.terms):
                questions = sum(write.questions for write in _pending(thread))
                found.append(ThreadRecord(thread_id, thread.created_at, thread.updated_at, latest, questions))
        return query.page(found)

    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        threads: Threads = yield Read()
        found = []
        for thread in _chosen(threads, query.thread_id).values():
            latest = thread.checkpoints.get(("", _latest_id(thread, "")))
            if latest and has_terms(latest.terms, query.terms):
                found += [InterruptRecord(latest, write, thread.chunks) for write in _pending(thread)]
        return query.page(found)


# Finding


def _place(key: CheckpointKey) -> Place:
    return (key.checkpoint_ns, key.checkpoint_id)


def _chosen(threads: Threads, thread_id: str | None) -> Threads:
    """The thread with this id, if it exists; without an id, all threads."""
    if thread_id is None:
        return threads
    return {thread_id: threads[thread_id]} if thread_id in threads else {}


def _latest_id(thread: Thread, namespace: str) -> str:
    """The greatest id in a namespace; for an empty namespace the empty text, which is not the id of a checkpoint."""
    return max((id_ for other, id_ in thread.checkpoints if other == namespace), default="")


def _with_contents(thread: Thread, record: CheckpointRecord) -> StoredCheckpoint:
    values = {version[1]: thread.values[version] for version in _stored_versions(thread, record)}
    writes = tuple(thread.writes.get(_place(record.key), {}).values())
    # All chunks of the thread are more than needed, but cost nothing here. Another store should load the chunks that
    # values and writes refer to and, if they are nodes, their children, level by level.
    return StoredCheckpoint(record, values, writes, thread.chunks)


def _stored_versions(
    thread: Thread, record: CheckpointRecord, channels: Collection[str] | None = None
) -> Iterator[Version]:
    """The versions of a checkpoint that have a stored value, for all channels or only for these."""
    for channel, version in record.channels:
        key = (record.key.checkpoint_ns, channel, version)
        if key in thread.values and (channels is None or channel in channels):
            yield key


def _missing_chunks(
    thread: Thread, values: Iterable[ValueRecord], chunks: Mapping[ChunkId, Chunk]
) -> frozenset[ChunkId]:
    """The chunks to which values or nodes refer, and which are neither among ``chunks`` nor stored."""
    return frozenset(chunks_needed(values, chunks) - thread.chunks.keys())


def _can_be_parent(thread: Thread, checkpoint: CheckpointRecord) -> bool:
    """Whether a checkpoint's open channels can be rebuilt from its parent. A retired parent has only some writes."""
    parent = (checkpoint.key.checkpoint_ns, checkpoint.parent_id or "")
    retired = thread.retired.get(parent)
    return parent in thread.checkpoints or (
        retired is not None and {*checkpoint.open_channels} <= {*retired.open_channels}
    )


def _ancestors(thread: Thread, place: Place) -> Iterator[CheckpointRecord]:
    """The ancestors of a checkpoint, retired ones included, nearest first; each only once, even in a ring."""
    known = {**thread.retired, **thread.checkpoints}
    passed = {place}
    record = known.get(place)
    while record and record.parent_id:
        parent = (place[0], record.parent_id)
        record = None if parent in passed else known.get(parent)
        passed.add(parent)
        if record:
            yield record


# Pages


def _pending(thread: Thread) -> Iterator[WriteRecord]:
    """The writes that have pending interrupts."""
    writes = thread.writes.get(("", _latest_id(thread, "")), {}).values()
    settled = {write.task_id for write in writes if write.settles}
    return (write for write in writes if write.questions and write.task_id not in settled)


# Removing and copying


def _retain(threads: Threads, thread_id: str, kept: Collection[Place]) -> None:
    """Remove the visible checkpoints of a thread that are not in ``kept``, and what only they needed."""
    thread = threads.get(thread_id, _NOTHING)
    everything = {**thread.retired, **thread.checkpoints}
    ever_open = {(place[0], channel) for place, record in everything.items() for channel in record.open_channels}
    needed: dict[Place, set[str]] = {}
    versions: set[Version] = set()
    for place in kept:
        record, (namespace, _) = thread.checkpoints[place], place
        stored = set(_stored_versions(thread, record))
        versions |= stored
        missing = {channel for channel, _ in record.channels if (namespace, channel) in ever_open}
        missing -= {channel for _, channel, _ in stored}
        for ancestor in _ancestors(thread, place):
            if not missing:
                break
            needed.setdefault(_place(ancestor.key), set()).update(missing)
            seeds = set(_stored_versions(thread, ancestor, missing))
            versions |= seeds
            missing -= {channel for _, channel, _ in seeds}
    values = {version: thread.values[version] for version in versions}
    writes = {
        place: {
            key: write
            for key, write in stored_writes.items()
            if place in kept or place not in everything or write.channel in needed.get(place, ())
        }
        for place, stored_writes in thread.writes.items()
    }
    standing = [*values.values(), *(write.value for found in writes.values() for write in found.values())]
    threads[thread_id] = replace(
        thread,
        created_at=thread.created_at if kept else None,
        checkpoints={place: thread.checkpoints[place] for place in kept},
        # Their open channels are now only those whose writes they keep.
        retired={
            place: replace(everything[place], open_channels=tuple(needed[place])) for place in needed.keys() - kept
        },
        values=values,
        writes=writes,
        chunks=_chunks_under(thread, standing),
    )
    if not kept and not standing:
        del threads[thread_id]


def _chunks_under(thread: Thread, values: Iterable[ValueRecord]) -> Mapping[ChunkId, Chunk]:
    """The chunks to which these values refer, directly or through nodes."""
    reached: dict[ChunkId, Chunk] = {}
    level = {id_ for value in values for id_ in value.chunk_ids}
    while level:
        found = {id_: thread.chunks[id_] for id_ in level}
        reached.update(found)
        level = {id_ for chunk in found.values() for id_ in chunk.children} - reached.keys()
    return reached


def _renamed(records: Mapping[Place, CheckpointRecord], thread_id: str) -> Mapping[Place, CheckpointRecord]:
    return {place: replace(record, key=replace(record.key, thread_id=thread_id)) for place, record in records.items()}
