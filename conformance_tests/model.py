"""The contract as a program: dictionaries, and what each operation leaves in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from langgraph.checkpoint.base import WRITES_IDX_MAP, writes_sort_key


class Place(NamedTuple):
    """A namespace of a thread."""

    thread: str
    ns: str


@dataclass(frozen=True, slots=True)
class Put:
    """A checkpoint as it was put. ``values`` has an entry for each channel that has a value."""

    parent: str | None
    values: Mapping[str, Any]
    versions: Mapping[str, str]
    metadata: Mapping[str, Any]
    writes: Mapping[tuple[str, int], tuple[str, Any, str]] = field(default_factory=dict)
    """Maps task and position to channel, value and task path."""

    @property
    def pending_writes(self) -> list[tuple[str, str, Any]]:
        ordered = sorted(self.writes.items(), key=lambda item: writes_sort_key(item[1][2], *item[0]))
        return [(task, channel, value) for (task, _), (channel, value, _) in ordered]


class Model:
    """What a saver that keeps the contract has stored."""

    def __init__(self) -> None:
        self.places: dict[Place, dict[str, Put]] = {}

    def put(self, place: Place, id_: str, checkpoint: Put) -> None:
        self.places.setdefault(place, {}).setdefault(id_, checkpoint)

    def put_writes(self, place: Place, id_: str, writes: Sequence[tuple[str, Any]], task: str, path: str) -> None:
        checkpoint = self.places[place][id_]
        stored = dict(checkpoint.writes)
        for position, (channel, value) in enumerate(writes):
            index = WRITES_IDX_MAP.get(channel, position)
            if index < 0 or (task, index) not in stored:
                stored[task, index] = (channel, value, path)
        self.places[place][id_] = replace(checkpoint, writes=stored)

    def get(self, place: Place, id_: str | None = None) -> tuple[str, Put] | None:
        stored = self.places.get(place, {})
        id_ = max(stored, default=None) if id_ is None else id_
        return (id_, stored[id_]) if id_ in stored else None

    def list(
        self,
        thread: str | None,
        ns: str | None = None,
        *,
        filter_: Mapping[str, Any] | None = None,
        before: str | None = None,
    ) -> Sequence[tuple[Place, str]]:
        found = [
            (place, id_)
            for place, stored in self.places.items()
            if thread in (None, place.thread) and ns in (None, place.ns)
            for id_, checkpoint in stored.items()
            if before is None or id_ < before
            if all(checkpoint.metadata.get(key) == value for key, value in (filter_ or {}).items())
        ]
        return sorted(found, key=lambda one: one[1], reverse=True)

    def delete_thread(self, thread: str) -> None:
        for place in self.places_of(thread):
            del self.places[place]

    def copy_thread(self, source: str, target: str) -> None:
        for place in self.places_of(source):
            self.places[Place(target, place.ns)] = dict(self.places[place])

    def prune(self, threads: Collection[str], strategy: str, keep: int = 1) -> None:
        for thread in threads:
            for place in self.places_of(thread):
                self.places[place] = dict(sorted(self.places[place].items())[-keep:])
            if strategy == "delete":
                self.delete_thread(thread)

    def delete_for_runs(self, run_ids: Collection[str]) -> None:
        for place, stored in list(self.places.items()):
            kept = {id_: one for id_, one in stored.items() if one.metadata.get("run_id") not in run_ids}
            self.places[place] = kept
            if not kept:
                del self.places[place]

    def places_of(self, thread: str) -> Sequence[Place]:
        return [place for place in self.places if place.thread == thread]

    def all(self) -> Iterator[tuple[Place, str, Put]]:
        for place, stored in self.places.items():
            for id_, checkpoint in stored.items():
                yield place, id_, checkpoint
