"""What the saver and a store pass to each other: ids as text, everything else as bytes that the store never reads.

A thread's data, as every store keeps it::

    thread ── namespace ── checkpoint ── writes (task_id, idx)
                      └─── channel values (channel, version) ── chunks, shared within the thread

A store needs no knowledge of LangGraph. Plain fields say whether a write raises or settles an interrupt, and which
channels are rebuilt from ancestors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from checkpoint_base.keys import CheckpointKey

Positioned = TypeVar("Positioned", "ThreadRecord", "InterruptRecord")

ChunkId: TypeAlias = bytes
"""16 bytes: a digest of the chunk's content, unique within a thread."""

CHUNK_ID_BYTES = 16

ChannelVersion: TypeAlias = tuple[str, str]
"""A channel and one of its versions."""

Position: TypeAlias = tuple[int, str, str]
"""Where a listing has a thread or a pending interrupt: its time, its thread, and its task if it has one."""

Order: TypeAlias = Literal["newest", "oldest"]


class Chunk(NamedTuple):
    """A piece of one or many values, stored once in a thread.

    ``body`` is opaque in a leaf; in a node it is the ids of the chunks below it, joined.
    """

    # A tuple, because a long value has hundreds of them and a frozen dataclass takes four times as long to make.

    id: ChunkId
    body: bytes
    node: bool = False

    @property
    def children(self) -> tuple[ChunkId, ...]:
        """The chunks that must be stored wherever this one is."""
        return split_ids(self.body) if self.node else ()


@dataclass(frozen=True, slots=True)
class ValueRecord:
    """One serialized value: ``root`` is opaque to stores, ``refs`` are the joined ids of the chunks it consists of."""

    root: bytes
    refs: bytes = b""

    @property
    def chunk_ids(self) -> tuple[ChunkId, ...]:
        return split_ids(self.refs)


@dataclass(frozen=True, slots=True)
class ChannelValue:
    """The value of a channel at one of its versions. Versions are never reused for another value."""

    channel: str
    version: str
    value: ValueRecord


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """One checkpoint without its values.

    ``header`` is opaque. ``channels`` are the (channel, version) pairs whose values make up the state; a pair may have
    no stored value. ``open_channels`` are those whose value is rebuilt from the ancestors' writes. ``terms`` are the
    joined 8-byte digests of the metadata entries that can be filtered on. ``caller_id``, on a checkpoint of a call of a
    subgraph, is the checkpoint of another namespace at which the call began; None on what outlives a call.
    ``written_at`` is in microseconds since 1970-01-01 UTC, by the writer's clock.
    """

    key: CheckpointKey
    parent_id: str | None
    header: bytes
    channels: tuple[ChannelVersion, ...]
    open_channels: tuple[str, ...]
    terms: bytes
    run_id: str | None
    caller_id: str | None
    written_at: int


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """One pending write of a task, identified by its checkpoint, ``task_id`` and ``idx``.

    A write with ``idx >= 0`` never replaces another (first wins); one with ``idx < 0`` always does (last wins).
    ``questions`` counts the interrupts that the write raises; they are pending while no write of the same task
    ``settles`` it.
    """

    task_id: str
    idx: int
    channel: str
    task_path: str
    value: ValueRecord
    questions: int
    settles: bool
    written_at: int


@dataclass(frozen=True, slots=True)
class Missing:
    """What a write relies on but somebody has removed meanwhile; false if nothing is missing.

    ``chunks`` are ids that were referred to without bringing the chunk along; ``versions`` are (channel, version) pairs
    without a stored value; ``parent`` says that the parent, whose writes the checkpoint is rebuilt from, is gone.
    """

    chunks: frozenset[ChunkId] = frozenset()
    versions: frozenset[ChannelVersion] = frozenset()
    parent: bool = False

    def __bool__(self) -> bool:
        return bool(self.chunks or self.versions or self.parent)


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint as it was found, with its contents if they were asked for.

    ``values`` are those stored for the record's ``channels``. ``chunks`` hold at least the chunks that ``values`` and
    ``writes`` consist of; one that is not among them has been lost.
    """

    record: CheckpointRecord
    values: Mapping[str, ValueRecord]
    writes: tuple[WriteRecord, ...]
    chunks: Mapping[ChunkId, Chunk]

    @property
    def position(self) -> CheckpointKey:
        return self.record.key


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which checkpoints to list, descending by `CheckpointKey.list_order`.

    What is None leaves out nothing; an empty ``checkpoint_ns`` is the root namespace, and ``checkpoint_ns`` and
    ``checkpoint_id`` are given only together with a ``thread_id``. A checkpoint must have all of ``terms``. ``before``
    and ``after`` are exclusive; ``after`` is the last key of the previous page. Without ``contents`` neither values nor
    writes are read.
    """

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    terms: tuple[bytes, ...] = ()
    after: CheckpointKey | None = None
    limit: int = 100
    contents: bool = True

    @property
    def below(self) -> str | None:
        """The least id in ``before`` and ``after``, if there is any: no checkpoint of this page has a greater one."""
        bounds = (self.before, self.after.checkpoint_id if self.after else None)
        return min((bound for bound in bounds if bound), default=None)


@dataclass(frozen=True, slots=True)
class InboxQuery:
    """Which threads or pending interrupts to list, by ``position``: descending if ``order`` is ``"newest"``.

    ``after`` is the last ``position`` of the previous page, exclusive. A thread without ``latest`` has no terms.
    ``limit`` is the length of a page, and ``wanted`` how many the caller wants from here on, or None for all: where
    finding one takes finding all, several pages may be returned at once, but none beyond those.
    """

    thread_id: str | None = None
    terms: tuple[bytes, ...] = ()
    order: Order = "newest"
    after: Position | None = None
    limit: int = 100
    wanted: int | None = None

    def is_behind(self, position: Position) -> bool:
        """Whether a position comes after ``after`` in this order."""
        if self.after is None:
            return True
        return position < self.after if self.order == "newest" else position > self.after

    def page(self, found: Iterable[Positioned]) -> Sequence[Positioned]:
        """Filter, sort and cut ``found``, which has every matching item in any order."""
        behind = [item for item in found if self.is_behind(item.position)]
        return sorted(behind, key=lambda item: item.position, reverse=self.order == "newest")[: self.limit]


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A thread with at least one checkpoint. ``latest`` is the greatest checkpoint of its root namespace, if any.

    ``created_at`` is the ``written_at`` of the first checkpoint that was put, even if that was removed since;
    ``updated_at`` is the greatest of any checkpoint or write. A copy has those of its source. ``questions`` is how many
    interrupts are pending on ``latest``.
    """

    thread_id: str
    created_at: int
    updated_at: int
    latest: CheckpointRecord | None
    questions: int

    @property
    def position(self) -> Position:
        """What `CheckpointStore.threads` is ordered by; every later checkpoint or write may move the thread."""
        return (self.updated_at, self.thread_id, "")


@dataclass(frozen=True, slots=True)
class InterruptRecord:
    """A write that raises pending interrupts, with the checkpoint it was recorded on.

    A task has at most one such write on a checkpoint, so positions are unique.
    """

    checkpoint: CheckpointRecord
    write: WriteRecord
    chunks: Mapping[ChunkId, Chunk]

    @property
    def position(self) -> Position:
        """What `CheckpointStore.interrupts` is ordered by: when the write was made, not its checkpoint."""
        return (self.write.written_at, self.checkpoint.key.thread_id, self.write.task_id)


@dataclass(frozen=True, slots=True)
class Ancestry:
    """What the ancestors of a checkpoint contributed to some channels.

    ``writes`` has an item for each ancestor, nearest first: its writes to the channels that were still open there.
    ``seeds`` has the nearest stored value of each channel, unless the first checkpoint was reached without one.
    """

    writes: tuple[tuple[WriteRecord, ...], ...] = ()
    seeds: Mapping[str, ValueRecord] = field(default_factory=dict)
    chunks: Mapping[ChunkId, Chunk] = field(default_factory=dict)


def unreadable(key: CheckpointKey) -> CheckpointRecord:
    """Stand for a damaged checkpoint where a listing must go on. It has no header, so whoever reads it reports it."""
    return CheckpointRecord(
        key=key,
        parent_id=None,
        header=b"",
        channels=(),
        open_channels=(),
        terms=b"",
        run_id=None,
        caller_id=None,
        written_at=0,
    )


def unreadable_question(task_id: str, written_at: int) -> WriteRecord:
    """`unreadable`, for a write that raises an interrupt: it has no value."""
    return WriteRecord(
        task_id=task_id,
        idx=-1,
        channel="",
        task_path="",
        value=ValueRecord(b""),
        questions=1,
        settles=False,
        written_at=written_at,
    )


def chunks_needed(values: Iterable[ValueRecord], chunks: Mapping[ChunkId, Chunk]) -> set[ChunkId]:
    """The chunks that ``values`` or nodes among ``chunks`` refer to, and that are not among ``chunks``.

    A store need look for no others: the children of a stored node are stored, because they come and go together.
    """
    needed = {id_ for value in values if value.refs for id_ in value.chunk_ids}
    needed.update(id_ for chunk in chunks.values() if chunk.node for id_ in chunk.children)
    return needed.difference(chunks)


def closure(
    values: Iterable[ValueRecord], *sources: Mapping[ChunkId, Chunk]
) -> tuple[dict[ChunkId, Chunk], set[ChunkId]]:
    """The chunks that these values consist of, down to the leaves, and the ids of those that no source has."""
    found: dict[ChunkId, Chunk] = {}
    missing: set[ChunkId] = set()
    at_hand = [id_ for value in values for id_ in value.chunk_ids]
    while at_hand:
        id_ = at_hand.pop()
        if id_ in found or id_ in missing:
            continue
        for source in sources:
            if id_ in source:
                found[id_] = source[id_]
                at_hand.extend(source[id_].children)
                break
        else:
            missing.add(id_)
    return found, missing


def split_ids(joined: bytes) -> tuple[ChunkId, ...]:
    """Take joined chunk ids apart."""
    return tuple(joined[at : at + CHUNK_ID_BYTES] for at in range(0, len(joined), CHUNK_ID_BYTES))
