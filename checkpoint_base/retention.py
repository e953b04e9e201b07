"""What stays when checkpoints are removed: pure functions for stores that decide this in Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import TypeAlias

from checkpoint_base.records import ChannelVersion, ChunkId


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What decides whether a checkpoint is kept, and what it keeps; fields as in `CheckpointRecord`."""

    parent_id: str | None
    run_id: str | None
    caller_id: str | None
    versions: Mapping[str, str]
    open_channels: frozenset[str]
    retired: bool


Placed: TypeAlias = tuple[Hashable, str, str | None, bool]
"""A checkpoint: its namespace, its id, its ``caller_id``, and whether it is visible."""

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


def the_latest(keep: int, checkpoints: Iterable[Placed]) -> Choice:
    """The choice of `CheckpointStore.prune`, given all checkpoints of the thread."""
    ends = ended_calls(keep, checkpoints)
    return lambda visible: () if ends((id_, one.caller_id) for id_, one in visible.items()) else nlargest(keep, visible)


def ended_calls(keep: int, checkpoints: Iterable[Placed]) -> Callable[[Iterable[tuple[str, str | None]]], bool]:
    """Return a predicate for namespaces: does it belong to a call that has ended, so that all of it goes?

    Such a call began at a checkpoint of the thread that goes. A checkpoint that was never there does not count: it may
    be on its way, or in another thread, whose graph is still within the call. The predicate takes the ids of the
    namespace's visible checkpoints, each with its ``caller_id``.
    """
    visible: dict[Hashable, dict[str, str | None]] = {}
    stored = set()
    for namespace, id_, caller_id, is_visible in checkpoints:
        stored.add(id_)
        if is_visible:
            visible.setdefault(namespace, {})[id_] = caller_id
    kept = {id_ for here in visible.values() if _caller(here.items()) is None for id_ in nlargest(keep, here)}
    going = stored - kept
    return lambda here: _caller(here) in going


def _caller(checkpoints: Iterable[tuple[str, str | None]]) -> str | None:
    """The ``caller_id`` of a namespace: that of its newest checkpoint, but for those that LangGraph put without one."""
    return max(((id_, caller_id) for id_, caller_id in checkpoints if caller_id is not None), default=("", None))[1]


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
        parent_id = skeletons[id_].parent_id
        while missing and parent_id is not None and parent_id in skeletons:
            # Another kept checkpoint has followed these from here; or this one has, if damaged parents form a ring.
            missing -= needed.get(parent_id, set())
            needed.setdefault(parent_id, set()).update(missing)
            ancestor = skeletons[parent_id]
            found = {version for version in ancestor.versions.items() if version[0] in missing and version in stored}
            seeds |= found
            missing -= {channel for channel, _ in found}
            parent_id = ancestor.parent_id
    return needed, seeds
