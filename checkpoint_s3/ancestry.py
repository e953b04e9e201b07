"""What the ancestors of a checkpoint contributed to some channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.keys import NamespaceKey
from checkpoint_base.records import Ancestry, Chunk, ChunkId, ValueRecord, WriteRecord
from checkpoint_base.transport import Operation
from checkpoint_s3.format import Head, Items
from checkpoint_s3.groups import Group, grouped, objects
from checkpoint_s3.layout import space_segment
from checkpoint_s3.reader import Reader, entries_of, read_all_writes
from checkpoint_s3.stack import closure
from checkpoint_s3.transport import List

FIRST_HEADS = 16
"""How many heads are read at first, in the hope that they include the ancestors; then four times as many, and so on."""


@dataclass(frozen=True, slots=True)
class _Ancestor:
    """A checkpoint of the chain. ``opened`` are the channels still open there, ``seeds`` those it has a value of."""

    group: Group
    opened: frozenset[str]
    seeds: frozenset[str]


def follow(
    reader: Reader, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]
) -> Operation[Ancestry]:
    """`CheckpointStore.ancestry`."""
    groups = yield from _listed(reader, key)
    if checkpoint_id is None:
        checkpoint_id = next((id_ for id_, group in groups.items() if group.visible), None)
    if checkpoint_id is None or checkpoint_id not in groups:
        return Ancestry()
    chain = yield from _chain(reader, key.thread_id, groups, checkpoint_id, channels)
    return (yield from _collected(reader, key.thread_id, chain))


def _listed(reader: Reader, key: NamespaceKey) -> Operation[Mapping[str, Group]]:
    """The checkpoints of a namespace by id, newest first."""
    folder = reader.keys.folder(key.thread_id)
    prefix = folder + space_segment(key.checkpoint_ns)
    state, page = yield from reader.listed(key.thread_id, List(prefix))
    pages = [page]
    while pages[-1].last is not None:
        pages.append((yield List(prefix, after=pages[-1].last)))
    found = grouped(objects(entries_of(pages), folder), state.ledger)
    return {group.checkpoint_id: group for group in found if group.checkpoint is not None}


def _chain(
    reader: Reader, thread_id: str, groups: Mapping[str, Group], checkpoint_id: str, channels: Collection[str]
) -> Operation[Sequence[_Ancestor]]:
    """The ancestors of a checkpoint, beginning with its parent, until no channel is open any more."""
    ids = [*groups]
    heads: dict[str, Head] = {}
    wanted, at_once = checkpoint_id, FIRST_HEADS
    opened, passed = set(channels), {checkpoint_id}
    chain: list[_Ancestor] = []
    while opened:
        if wanted not in heads:
            at = ids.index(wanted)
            some = [id_ for id_ in ids[at:] if id_ not in heads][:at_once]
            found = yield from reader.heads([(thread_id, groups[id_].existing) for id_ in some])
            heads.update(zip(some, found, strict=True))
            at_once *= 4
        if wanted != checkpoint_id:
            seeds = {channel for channel, version in heads[wanted].stored if channel in opened}
            chain.append(_Ancestor(groups[wanted], frozenset(opened), frozenset(seeds)))
            opened -= seeds
        parent_id = heads[wanted].record.parent_id
        if parent_id is None or parent_id not in groups or parent_id in passed:
            break
        passed.add(parent_id)
        wanted = parent_id
    return chain


def _collected(reader: Reader, thread_id: str, chain: Sequence[_Ancestor]) -> Operation[Ancestry]:
    """Read the writes of all ancestors, and the states that have a wanted value: usually in one request."""
    folder = reader.keys.folder(thread_id)
    keys = [folder + each.name for ancestor in chain for each in ancestor.group.writes]
    keys += [
        folder + part.text() for ancestor in chain if ancestor.seeds for part in ancestor.group.existing.parsed.stack()
    ]
    bodies = yield from reader.bodies([*dict.fromkeys(keys)])
    writes: list[tuple[WriteRecord, ...]] = []
    values: dict[str, ValueRecord] = {}
    chunks: dict[ChunkId, Chunk] = {}
    items: dict[str, Items] = {}
    for ancestor in chain:
        group, opened = ancestor.group, ancestor.opened
        found, brought = read_all_writes([(each, bodies[folder + each.name]) for each in group.writes], thread_id)
        kept = opened if group.retired is None else opened & group.retired
        writes.append(tuple(write for write in found if write.channel in kept))
        chunks.update(brought)
        if ancestor.seeds:
            state = reader.read(thread_id, replace(group, writes=[]), bodies, items)
            values |= {channel: state.values[channel] for channel in ancestor.seeds}
            chunks.update(state.chunks)
    # Writes may refer to chunks of their checkpoint's state.
    lacking = [
        (thread_id, ancestor.group)
        for ancestor, some in zip(chain, writes, strict=True)
        if closure((id_ for write in some for id_ in write.value.chunk_ids), chunks)[1]
    ]
    states = yield from reader.contents(lacking)
    for stored in states:
        chunks.update(stored.chunks)
    return Ancestry(tuple(writes), values, chunks)
