"""What the ancestors of a checkpoint contributed to some channels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.keys import NamespaceKey
from checkpoint_base.records import Ancestry, Chunk, ChunkId, ValueRecord, WriteRecord
from checkpoint_base.transport import Operation
from checkpoint_s3.format import Head, Items
from checkpoint_s3.groups import Group
from checkpoint_s3.reader import Reader, read_all_writes
from checkpoint_s3.stack import missing_chunks
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
    listed = yield from reader.surveyor.first_groups(key.thread_id, List(reader.surveyor.keys.space(key)))
    groups = {group.checkpoint_id: group for group in listed if group.checkpoint is not None}  # newest first
    if checkpoint_id is None:
        checkpoint_id = next((id_ for id_, group in groups.items() if group.visible), None)
    if checkpoint_id is None or checkpoint_id not in groups:
        return Ancestry()
    chain = yield from _chain(reader, groups, checkpoint_id, channels)
    return (yield from _collected(reader, chain))


def _chain(
    reader: Reader, groups: Mapping[str, Group], checkpoint_id: str, channels: Collection[str]
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
            found = yield from reader.heads([groups[id_].existing for id_ in some])
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


def _collected(reader: Reader, chain: Sequence[_Ancestor]) -> Operation[Ancestry]:
    """Read the writes of all ancestors, and the states that have a wanted value: usually in one request."""
    keys = [each.key for ancestor in chain for each in ancestor.group.writes]
    keys += [key for ancestor in chain if ancestor.seeds for key in ancestor.group.existing.state_keys]
    bodies = yield from reader.bodies([*dict.fromkeys(keys)])
    writes: list[tuple[WriteRecord, ...]] = []
    values: dict[str, ValueRecord] = {}
    chunks: dict[ChunkId, Chunk] = {}
    items: dict[str, Items] = {}
    for ancestor in chain:
        group, opened = ancestor.group, ancestor.opened
        found, brought = read_all_writes(group.writes, bodies)
        kept = opened if group.retired is None else opened & group.retired
        writes.append(tuple(write for write in found if write.channel in kept))
        chunks.update(brought)
        if ancestor.seeds:
            state = reader.read(replace(group, writes=[]), bodies, items)
            values |= {channel: state.values[channel] for channel in ancestor.seeds}
            chunks.update(state.chunks)
    # Writes may refer to chunks of their checkpoint's state.
    lacking = [ancestor.group for ancestor, some in zip(chain, writes, strict=True) if missing_chunks(some, chunks)]
    states = yield from reader.contents(lacking)
    for stored in states:
        chunks.update(stored.chunks)
    return Ancestry(tuple(writes), values, chunks)
