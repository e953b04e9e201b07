"""What stays when checkpoints are removed: pure functions for stores that decide this in Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import TypeAlias

from checkpoint_base.records import ChannelVersion, ChunkId


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What decides whether a checkpoint is kept, and what it keeps; fields as in `CheckpointRecord`."""

    parent_id: str | None
    run_id: str | None
    root_id: str | None
    versions: Mapping[str, str]
    open_channels: frozenset[str]
    retired: bool


Choice: TypeAlias = Callable[[Mapping[str, Skeleton]], Collection[str]]
"""Says which of a namespace's visible checkpoints, given by id, to keep."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What becomes of one namespace.

    ``removed`` are ids of checkpoints to remove with their writes; ``retired`` those to take out of sight, with the
    channels that become their ``open_channels`` and whose writes stay; ``values`` the stored values to remove.
    """

    removed: frozenset[str]
    retired: Mapping[str, frozenset[str]]
    values: frozenset[ChannelVersion]


def living_calls(keep: int, root: Iterable[str]) -> Callable[[str | None], bool]:
    """Tells by ``root_id`` which checkpoints may still be needed, given the visible checkpoints of the root namespace.

    Those of a call go with the one at which it began. If that one is later than all others, it is about to arrive.
    """
    kept = frozenset(nlargest(keep, root))
    newest = max(kept, default="")
    return lambda root_id: root_id is None or root_id in kept or root_id > newest


def the_latest(keep: int, root: Iterable[str]) -> Choice:
    """The choice of `CheckpointStore.prune`, given the visible checkpoints of the thread's root namespace."""
    may_be_needed = living_calls(keep, root)
    return lambda visible: nlargest(keep, (id_ for id_, one in visible.items() if may_be_needed(one.root_id)))


def all_but_runs(run_ids: Collection[str]) -> Choice:
    """The choice of `CheckpointStore.delete_runs`."""
    return lambda visible: {id_ for id_, skeleton in visible.items() if skeleton.run_id not in run_ids}


def retain(skeletons: Mapping[str, Skeleton], stored: Collection[ChannelVersion], choose: Choice) -> Retention:
    """Decide what stays in a namespace, given all its checkpoints, retired ones included, and its stored values."""
    kept = frozenset(choose({id_: skeleton for id_, skeleton in skeletons.items() if not skeleton.retired}))
    needed, seeds = _needed_ancestors(skeletons, kept, stored)
    referenced = seeds.union(*(skeletons[id_].versions.items() for id_ in kept))
    return Retention(
        removed=frozenset(skeletons.keys() - kept - needed.keys()),
        retired={id_: frozenset(channels) for id_, channels in needed.items() if id_ not in kept},
        values=frozenset(version for version in stored if version not in referenced),
    )


def unreachable(children: Mapping[ChunkId, Collection[ChunkId]], references: Iterable[ChunkId]) -> set[ChunkId]:
    """The chunks of a thread that no value or write refers to any more, given the children of every chunk."""
    reached: set[ChunkId] = set()
    at_hand = list(references)
    while at_hand:
        id_ = at_hand.pop()
        if id_ not in reached:
            reached.add(id_)
            at_hand.extend(children.get(id_, ()))
    return children.keys() - reached


def _needed_ancestors(
    skeletons: Mapping[str, Skeleton], kept: Collection[str], stored: Collection[ChannelVersion]
) -> tuple[dict[str, set[str]], set[ChannelVersion]]:
    """The ancestors that kept checkpoints rebuild channels from, with these channels, and the values to start from."""
    ever_open = frozenset[str]().union(*(skeleton.open_channels for skeleton in skeletons.values()))
    needed: dict[str, set[str]] = {}
    seeds = set()
    for id_ in kept:
        missing = {
            channel
            for channel in ever_open & skeletons[id_].versions.keys()
            if (channel, skeletons[id_].versions[channel]) not in stored
        }
        passed = {id_}
        parent_id = skeletons[id_].parent_id
        while missing and parent_id is not None and parent_id in skeletons and parent_id not in passed:
            passed.add(parent_id)
            missing -= needed.get(parent_id, set())  # another kept checkpoint has followed these from here
            needed.setdefault(parent_id, set()).update(missing)
            ancestor = skeletons[parent_id]
            found = {version for version in ancestor.versions.items() if version[0] in missing and version in stored}
            seeds |= found
            missing -= {channel for channel, _ in found}
            parent_id = ancestor.parent_id
    return needed, seeds
