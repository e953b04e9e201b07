"""The objects of a thread, grouped by checkpoint, with what its ledger says about them. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from checkpoint_s3.format import Ledger, checkpoint_digest, writes_digest
from checkpoint_s3.layout import CheckpointName, WritesName, parse_name
from checkpoint_s3.transport import Entry


@dataclass(frozen=True, slots=True)
class CheckpointObject:
    """An object that holds a checkpoint; ``name`` is its name below the thread's folder."""

    name: str
    parsed: CheckpointName
    modified: float

    @property
    def digest(self) -> bytes:
        return checkpoint_digest(self.name)


@dataclass(frozen=True, slots=True)
class WritesObject:
    """An object that holds writes of a checkpoint, which itself may not be stored."""

    name: str
    parsed: WritesName
    etag: str
    modified: float

    @property
    def digest(self) -> bytes:
        return writes_digest(self.name, self.etag)


@dataclass(slots=True)
class Group:
    """All objects of one checkpoint id: its checkpoint, its writes, and what is hidden or was replaced.

    ``checkpoint`` is what readers see, or it is retired and only its writes to ``retired`` channels count; None if it
    has not been put yet or was removed. ``others`` are the id's objects that are hidden, and checkpoints that a later
    put replaced.
    """

    space: str
    checkpoint_id: str
    checkpoint: CheckpointObject | None = None
    retired: frozenset[str] | None = None
    writes: list[WritesObject] = field(default_factory=list)
    others: list[CheckpointObject | WritesObject] = field(default_factory=list)

    @property
    def existing(self) -> CheckpointObject:
        """``checkpoint``, where there must be one.

        Raises:
            ValueError: there is none.
        """
        if self.checkpoint is None:
            raise ValueError(f"{self.checkpoint_id} has no checkpoint")
        return self.checkpoint

    @property
    def visible(self) -> CheckpointObject | None:
        return self.checkpoint if self.retired is None else None

    @property
    def checkpoints(self) -> list[CheckpointObject]:
        """Every object that holds the checkpoint, hidden or not; ``checkpoint`` comes first."""
        others = [other for other in self.others if isinstance(other, CheckpointObject)]
        return others if self.checkpoint is None else [self.checkpoint, *others]


def objects(entries: Iterable[Entry], folder: str) -> Iterator[CheckpointObject | WritesObject]:
    """The objects of a thread among the entries of a listing. Entries with any other name are skipped."""
    for entry in entries:
        name = entry.key.removeprefix(folder)
        match parse_name(name):
            case CheckpointName() as parsed:
                yield CheckpointObject(name, parsed, entry.modified)
            case WritesName() as parsed:
                yield WritesObject(name, parsed, entry.etag, entry.modified)


def grouped(found: Iterable[CheckpointObject | WritesObject], ledger: Ledger) -> list[Group]:
    """The objects by checkpoint, in the order of the listing: within a namespace, the newest checkpoint comes first."""
    unseen = ledger.unseen
    groups: dict[tuple[str, str], Group] = {}
    for object_ in found:
        match object_:
            case CheckpointObject():
                place = (object_.parsed.space, object_.parsed.label.checkpoint_id)
            case WritesObject():
                place = (object_.parsed.space, object_.parsed.checkpoint_id)
        group = groups.setdefault(place, Group(*place))
        # A copy hides writes by their names alone, because it does so before it stores them.
        if object_.digest in unseen or checkpoint_digest(object_.name) in unseen:
            group.others.append(object_)
        elif isinstance(object_, WritesObject):
            group.writes.append(object_)
        elif group.checkpoint is None:  # the first of several is the one that was put last
            group.checkpoint = object_
            group.retired = ledger.retired.get(object_.digest)
        else:
            group.others.append(object_)
    return list(groups.values())


def carriers(groups: Iterable[Group], going: Collection[str]) -> set[str]:
    """The names of the objects that hold the states of all checkpoints except those that are ``going``.

    This includes hidden checkpoints that are not going yet: somebody may have read one just before it was hidden.
    """
    staying = (each for group in groups for each in group.checkpoints if each.name not in going)
    return {part.text() for checkpoint in staying for part in checkpoint.parsed.stack()}


def names_of(groups: Iterable[Group]) -> Mapping[str, CheckpointObject | WritesObject]:
    """Every object of the groups by its name."""
    return {
        object_.name: object_
        for group in groups
        for object_ in (*([group.checkpoint] if group.checkpoint else ()), *group.writes, *group.others)
    }
