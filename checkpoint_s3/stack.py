"""Decides what a checkpoint's object holds itself, and what it leaves to older objects. No I/O.

A reader fetches a checkpoint's object and the older ones that its name lists, all at once. The list must stay short,
although each checkpoint adds a little to its parent's state. So an object takes over what an older object holds
whenever that is no more than it holds itself, as in a log-structured merge tree. A value is thus copied a few times in
the life of a long thread, and what nobody needs any more is left behind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from checkpoint_base.records import (
    ChannelValue,
    ChannelVersion,
    CheckpointRecord,
    Chunk,
    ChunkId,
    Missing,
    StoredCheckpoint,
    ValueRecord,
    WriteRecord,
    closure,
)
from checkpoint_s3.format import Items, chunk_size, value_size
from checkpoint_s3.layout import CheckpointName, Label, reference_characters, room_for_references

MAX_OBJECTS = 9
"""The most objects that hold a checkpoint's state. With the listing, the ledger and a write they make 12 requests."""

SPARE_BYTES = 64 * 1024
"""Older objects are left behind when what nobody needs in them exceeds what is needed by more than this."""

_BROUGHT = -1
"""Stands for what a new object brings, where segments are numbered from 0, newest first."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One object and what it holds."""

    label: Label
    items: Items
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint's state as this process knows it: its objects, newest first, and the ids of the chunks it needs."""

    name: CheckpointName
    segments: tuple[Segment, ...]
    live: frozenset[ChunkId]

    @property
    def chunks(self) -> dict[ChunkId, Chunk]:
        """The chunks that it needs, by id."""
        return {
            id_: chunk for segment in self.segments for id_, chunk in segment.items.chunks.items() if id_ in self.live
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """How to store a checkpoint: what its object holds, and which older segments it refers to. Or what is missing."""

    missing: Missing
    stored: frozenset[ChannelVersion] = frozenset()
    own: Items = field(default_factory=lambda: Items({}, {}))
    behind: tuple[Segment, ...] = ()
    live: frozenset[ChunkId] = frozenset()


def plan(
    record: CheckpointRecord,
    values: Sequence[ChannelValue],
    chunks: Mapping[ChunkId, Chunk],
    unchanged: Collection[ChannelVersion],
    base: Sequence[Segment],
) -> Plan:
    """Decide how to store a checkpoint on top of the objects of another one, usually its parent."""
    wanted: dict[ChannelVersion, tuple[int, ValueRecord]] = {
        (value.channel, value.version): (_BROUGHT, value.value) for value in values
    }
    missing_versions = set()
    for pair in record.channels:
        if pair in wanted:
            continue
        found = next(((at, seg.items.values[pair]) for at, seg in enumerate(base) if pair in seg.items.values), None)
        if found is not None:
            wanted[pair] = found
        elif pair in unchanged:
            missing_versions.add(pair)
    sources = [*enumerate(segment.items.chunks for segment in base), (_BROUGHT, chunks)]
    needed, missing_ids = closure((value for _, value in wanted.values()), *(source for _, source in sources))
    if missing_ids or missing_versions:
        return Plan(Missing(frozenset(missing_ids), frozenset(missing_versions)))
    holders = {id_: at for at, source in reversed(sources) for id_ in needed.keys() & source.keys()}  # the first ones
    sizes: Counter[int] = Counter()  # of what is needed from each
    for at, value in wanted.values():
        sizes[at] += value_size(value)
    for id_, chunk in needed.items():
        sizes[holders[id_]] += chunk_size(chunk)
    taken = _taken(sizes, base, room_for_references(record.key.checkpoint_id))
    return Plan(
        Missing(),
        stored=frozenset(wanted),
        own=Items(
            {pair: value for pair, (at, value) in wanted.items() if at < taken},
            {id_: chunk for id_, chunk in needed.items() if holders[id_] < taken},
        ),
        behind=tuple(base[taken:]),
        live=frozenset(needed),
    )


def missing_chunks(writes: Iterable[WriteRecord], *sources: Mapping[ChunkId, Chunk]) -> set[ChunkId]:
    """The ids of the chunks that writes refer to and that no source has."""
    return closure((write.value for write in writes), *sources)[1]


def _taken(sizes: Mapping[int, int], base: Sequence[Segment], room: int) -> int:
    """From how many of the segments, newest first, the new object takes over what is needed.

    ``sizes`` are of what is needed from each, and of what was brought.
    """
    own, live = sizes[_BROUGHT], [sizes[at] for at in range(len(base))]
    characters = [reference_characters(segment.label) for segment in base]
    taken = 0
    while taken < len(base) and (
        live[taken] <= own or len(base) - taken >= MAX_OBJECTS or sum(characters[taken:]) > room
    ):
        own += live[taken]
        taken += 1
    alive = sum(live[taken:])
    dead = sum(segment.size for segment in base[taken:]) - alive
    return len(base) if dead > alive + SPARE_BYTES else taken


def snapshot_of(name: CheckpointName, held: Iterable[Items], stored: StoredCheckpoint) -> Snapshot:
    """The snapshot of a checkpoint that has been read, given what its objects hold, newest first."""
    segments = tuple(Segment(part.label, items, items.size) for part, items in zip(name.stack(), held, strict=True))
    needed, _ = closure(stored.values.values(), stored.chunks)
    return Snapshot(name, segments, frozenset(needed))
