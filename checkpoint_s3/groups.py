"""The objects of a thread, grouped by checkpoint, with what its ledger says about them. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from checkpoint_base.keys import CheckpointKey
from checkpoint_s3.format import Ledger, name_digest, writes_digest
from checkpoint_s3.layout import ROOT, CheckpointName, WritesName, parse_name
from checkpoint_s3.transport import Entry


@dataclass(frozen=True, slots=True)
class CheckpointObject:
    """An object that holds a checkpoint; ``name`` is its name in the folder of its thread."""

    thread_id: str
    folder: str
    name: str
    parsed: CheckpointName
    modified: float

    @property
    def key(self) -> str:
        return self.folder + self.name

    @property
    def state_keys(self) -> list[str]:
        """The keys of all objects that hold the checkpoint's state: its own, and the older ones that its name lists."""
        return [self.folder + part.text() for part in self.parsed.stack()]

    @property
    def checkpoint_key(self) -> CheckpointKey:
        """The checkpoint's key, but for its namespace, which a name does not always tell."""
        return CheckpointKey(self.thread_id, "", self.parsed.checkpoint_id)

    @property
    def digest(self) -> bytes:
        return name_digest(self.name)


@dataclass(frozen=True, slots=True)
class WritesObject:
    """An object that holds writes of a checkpoint, which itself may not be stored."""

    thread_id: str
    folder: str
    name: str
    parsed: WritesName
    etag: str
    modified: float
    size: int

    @property
    def key(self) -> str:
        return self.folder + self.name

    @property
    def digest(self) -> bytes:
        return writes_digest(self.name, self.etag)

    @property
    def described(self) -> str:
        """The object, for a message."""
        return f"object {self.name!r} of thread {self.thread_id!r}"


ThreadObject: TypeAlias = CheckpointObject | WritesObject


@dataclass(slots=True)
class Group:
    """All objects of one checkpoint id: its checkpoint, its writes, and what is hidden or was replaced.

    ``checkpoint`` is what readers see, or it is retired and only its writes to ``retired`` channels count; None if it
    has not been put yet or was removed. ``writes`` are in the order of their numbers. ``others`` are the id's objects
    that are hidden, and checkpoints that a later put replaced.
    """

    thread_id: str
    space: str
    checkpoint_id: str
    checkpoint: CheckpointObject | None = None
    retired: frozenset[str] | None = None
    writes: list[WritesObject] = field(default_factory=list)
    others: list[ThreadObject] = field(default_factory=list)

    @property
    def place(self) -> tuple[str, str]:
        """Where in its thread it is."""
        return self.space, self.checkpoint_id

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

    def has_writes_to(self, channels: Collection[str]) -> bool:
        """Whether the checkpoint exists and has kept its writes to these channels: a retired one has kept only some."""
        return self.checkpoint is not None and (self.retired is None or self.retired.issuperset(channels))

    @property
    def current(self) -> list[ThreadObject]:
        """All objects but the ``others``."""
        return [*self.writes] if self.checkpoint is None else [self.checkpoint, *self.writes]

    @property
    def replaced(self) -> list[CheckpointObject]:
        """The checkpoints among the ``others``."""
        return [other for other in self.others if isinstance(other, CheckpointObject)]

    @property
    def checkpoints(self) -> list[CheckpointObject]:
        """Every object that holds the checkpoint, hidden or not; ``checkpoint`` comes first."""
        return self.replaced if self.checkpoint is None else [self.checkpoint, *self.replaced]


def objects(thread_id: str, folder: str, entries: Iterable[Entry]) -> Iterator[ThreadObject]:
    """The objects of a thread among the entries of a listing. Entries with any other name are skipped."""
    for entry in entries:
        name = entry.key.removeprefix(folder)
        match parse_name(name):
            case CheckpointName() as parsed:
                yield CheckpointObject(thread_id, folder, name, parsed, entry.modified)
            case WritesName() as parsed:
                yield WritesObject(thread_id, folder, name, parsed, entry.etag, entry.modified, entry.size)


def grouped(found: Iterable[ThreadObject], ledger: Ledger) -> list[Group]:
    """The objects of a thread by checkpoint, in the order of the listing: the newest of a namespace comes first."""
    unseen = ledger.unseen
    groups: dict[tuple[str, str], Group] = {}
    for object_ in found:
        place = (object_.parsed.space, object_.parsed.checkpoint_id)
        group = groups.setdefault(place, Group(object_.thread_id, *place))
        if object_.digest in unseen or name_digest(object_.name) in unseen:
            group.others.append(object_)
        elif isinstance(object_, WritesObject):
            group.writes.append(object_)
        elif group.checkpoint is None:  # the first of several is the one that was put last
            group.checkpoint = object_
            group.retired = ledger.retired.get(object_.digest)
        else:
            group.others.append(object_)
    for group in groups.values():
        group.writes.sort(key=lambda object_: object_.parsed.number)
    return list(groups.values())


def latest_of(groups: Iterable[Group]) -> Group | None:
    """The latest visible checkpoint of the root namespace; the groups are in the order of a listing."""
    return next((group for group in groups if group.space == ROOT and group.visible), None)


def carriers(groups: Iterable[Group], going: Collection[str]) -> set[str]:
    """The names of the objects that hold the states of all checkpoints except those that are ``going``.

    This includes hidden checkpoints that are not going yet: somebody may have read one just before it was hidden.
    """
    staying = (each for group in groups for each in group.checkpoints if each.name not in going)
    return {part.text() for checkpoint in staying for part in checkpoint.parsed.stack()}


def names_of(groups: Iterable[Group]) -> Mapping[str, ThreadObject]:
    """Every object of the groups by its name."""
    return {object_.name: object_ for group in groups for object_ in (*group.current, *group.others)}
