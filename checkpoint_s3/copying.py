"""Copies threads. The copy stays hidden (veiled) until it is complete, when one change of its ledger reveals it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.errors import StoreUnavailable
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import Chunk, ChunkId, closure
from checkpoint_base.transport import Operation
from checkpoint_s3.format import (
    Ledger,
    name_digest,
    new_nonce,
    read_writes,
    read_writes_place,
    writes_object,
)
from checkpoint_s3.groups import CheckpointObject, Group, WritesObject, latest_of, names_of
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import ROOT, SALT_BYTES, CheckpointName
from checkpoint_s3.reader import Reader, read_all_writes
from checkpoint_s3.removal import Remover
from checkpoint_s3.survey import ReadLedger
from checkpoint_s3.transport import Batch, Copy, Put
from checkpoint_s3.vanished import Changed, Vanished


@dataclass(frozen=True, slots=True)
class _Copies:
    """The checkpoints to copy, and what the copy's ledger will say of them.

    ``names`` has the copies' names by those of the originals. ``hidden`` has the digests of objects that stay hidden:
    copies that only hold state for others, and checkpoints of the target that copies replace.
    """

    names: Mapping[str, CheckpointName]
    hidden: frozenset[bytes]
    retired: Mapping[bytes, frozenset[str]]


@dataclass(frozen=True, slots=True)
class _Veil:
    """Hides a copy in the target's ledger while it is being made.

    ``token`` tells it from those of other copies. ``added`` are the names of what is copied, ``kept`` those of what the
    target has already. The times are the source's.
    """

    source: str
    target: str
    token: bytes
    copies: _Copies
    added: frozenset[str]
    kept: frozenset[str]
    created_at: int | None
    updated_at: int

    @property
    def digests(self) -> frozenset[bytes]:
        return frozenset(map(name_digest, self.added))

    def drawn(self, read: ReadLedger, groups: Sequence[Group]) -> Ledger:
        """The ledger that hides the copy, before anything of it is stored."""
        if any(each.name in self.added for group in groups for each in group.writes):
            raise Changed(self.target)  # another copy, say, has stored them meanwhile: a veil would hide them
        return replace(read.ledger, veiled={**read.ledger.veiled, self.token: (read.now, self.digests)})

    def lifted(self, read: ReadLedger, groups: Sequence[Group]) -> Ledger:
        """The ledger that reveals the copy, when all of it is stored."""
        ledger = read.ledger
        if self.token not in ledger.veiled:
            raise StoreUnavailable(
                f"copying thread {self.source!r} took so long that what had been copied was swept up"
            )
        removed = ledger.removed
        there = {name for name, object_ in names_of(groups).items() if object_.digest not in removed}
        if not there >= self.added | self.kept:  # somebody has removed a part of the target meanwhile
            raise Changed(self.target)
        return replace(
            ledger,
            created_at=self.created_at,
            updated_at=max(self.updated_at, ledger.updated_at),
            hidden=(*ledger.hidden, (read.now, self.copies.hidden)),
            retired={**ledger.retired, **self.copies.retired},
            # A copy that was not completed may veil the same names of writes, so its veil is lifted from them, too. The
            # empty batch tells readers that something has just appeared.
            veiled={**ledger.unveiled(self.digests).veiled, self.token: (read.now, frozenset())},
        )


class Copier:
    """Copies threads.

    Args:
        reader: what the store reads with; its surveyor is what it lists with.
        inbox: marks waiting tasks in the target.
        remover: changes the target's ledger.
    """

    def __init__(self, reader: Reader, inbox: Inbox, remover: Remover) -> None:
        self._surveyor = reader.surveyor
        self._reader = reader
        self._inbox = inbox
        self._remover = remover

    def copy(self, source: str, target: str) -> Operation[bool]:
        """`CheckpointStore.copy_thread`."""
        (theirs, originals), (_, present) = yield from self._surveyor.survey([source, target])
        if not any(group.current for group in originals):
            return True
        known = {group.place for group in originals if group.visible}
        if any(group.visible and group.place not in known for group in present):
            return False
        mine = {group.place: group for group in present}
        token = new_nonce()
        copies = _copies(originals, mine, token[:SALT_BYTES])
        writes = yield from self._writes_to_add(target, originals, mine)
        if not copies.names and not writes:
            return True
        ((created_at, updated_at),) = yield from self._reader.times([(theirs, originals)])
        yield from self._surveyor.name_thread(target)
        folder = self._surveyor.keys.folder(target)
        added = [*(name.text() for name in copies.names.values()), *(put.key.removeprefix(folder) for put in writes)]
        kept = frozenset(object_.name for group in present for object_ in group.current)
        veil = _Veil(source, target, token, copies, frozenset(added), kept, created_at, updated_at)
        yield from self._remover.amend(target, veil.drawn)
        yield from self._copy_checkpoints(source, target, copies.names)
        yield from self._put_writes(target, writes)
        yield from self._mark(target, originals)
        yield from self._remover.amend(target, veil.lifted)
        # The target has something to sweep now. One thread more, so that what is due becomes less.
        yield from self._remover.tidy(2)
        return True

    def _writes_to_add(
        self, target: str, originals: Sequence[Group], mine: Mapping[tuple[str, str], Group]
    ) -> Operation[list[Put]]:
        """The writes that the target does not have, as new objects."""
        pairs = [(group, mine.get(group.place, Group(target, *group.place))) for group in originals if group.writes]
        bodies = yield from self._reader.bodies([each.key for pair in pairs for group in pair for each in group.writes])
        # Only the visible state of a checkpoint is copied, but its writes may refer to chunks of a replaced one.
        changed = [group for group, _ in pairs if group.replaced]
        chunks = yield from self._reader.all_chunks(changed)
        older = {group.place: some for group, some in zip(changed, chunks, strict=True)}
        return [put for group, own in pairs for put in self._added(group, own, older.get(group.place, {}), bodies)]

    def _added(
        self, group: Group, own: Group, older: Mapping[ChunkId, Chunk], bodies: Mapping[str, bytes]
    ) -> Iterator[Put]:
        """The writes of a checkpoint that the target's ``own`` does not have, numbered after those it has.

        ``older`` has chunks that they may refer to without bringing them along.
        """
        stored, _ = read_all_writes(own.writes, bodies)
        taken = {(write.task_id, write.idx) for write in stored}
        hidden = [other for other in own.others if isinstance(other, WritesObject)]
        numbers = _numbers([*own.writes, *hidden])
        for each in group.writes:
            found, chunks = read_writes(bodies[each.key], each.described)
            rest = [write for write in found if (write.task_id, write.idx) not in taken]
            if not rest:
                continue
            taken.update((write.task_id, write.idx) for write in rest)
            name, etag = each.parsed, None
            if name.kind == "x":
                # The target's object of this name must be a hidden one: a visible one is in `taken`.
                etag = next((other.etag for other in hidden if other.parsed == name), None)
            else:
                numbers[name.task] = numbers.get(name.task, -1) + 1
                name = replace(name, number=numbers[name.task])
            needed, _ = closure((write.value for write in rest), chunks, older)
            checkpoint_ns, checkpoint_id, _ = read_writes_place(bodies[each.key], each.described)
            key = CheckpointKey(own.thread_id, checkpoint_ns, checkpoint_id)
            body = writes_object(key, rest, needed.values())
            folder = self._surveyor.keys.folder(own.thread_id)
            yield Put(folder + name.text(), body, if_absent=etag is None, if_match=etag)

    def _copy_checkpoints(self, source: str, target: str, names: Mapping[str, CheckpointName]) -> Operation[None]:
        if not names:
            return
        theirs, ours = self._surveyor.keys.folder(source), self._surveyor.keys.folder(target)
        done = yield Batch(Copy(theirs + name, ours + copied.text()) for name, copied in names.items())
        for name, is_done in zip(names, done, strict=True):
            if not is_done:
                raise Vanished(self._reader.named(theirs + name))

    def _put_writes(self, target: str, puts: Sequence[Put]) -> Operation[None]:
        if not puts:
            return
        done = yield Batch(puts)
        refused = [put for put, etag in zip(puts, done, strict=True) if etag is None]
        stored = yield from self._reader.bodies([put.key for put in refused])
        folder = self._surveyor.keys.folder(target)
        taken = [put.key.removeprefix(folder) for put in refused if stored[put.key] != put.body]
        if taken:  # by another writer, whose objects must not stay hidden; otherwise only the answer was lost
            yield from self._remover.unveil(target, taken)
            raise Changed(target)

    def _mark(self, target: str, originals: Sequence[Group]) -> Operation[None]:
        """Mark in the target the tasks that may be waiting on its latest checkpoint, or on one that has yet to arrive.

        The writes say which. The source may have lost its markers, because it has gone on since.
        """
        latest = latest_of(originals)
        for group in originals:
            if group.space == ROOT and (latest is None or group.checkpoint_id >= latest.checkpoint_id):
                yield from self._inbox.mark_again(group, copied_to=target)


def _copies(originals: Sequence[Group], mine: Mapping[tuple[str, str], Group], salt: bytes) -> _Copies:
    """Decide which objects to copy under which names: never one that the target has had, which its ledger may hide."""
    names: dict[str, CheckpointName] = {}
    seen: set[str] = set()
    retired: dict[bytes, frozenset[str]] = {}
    replaced: set[bytes] = set()
    for group in originals:
        if group.checkpoint is None:
            continue
        own = mine.get(group.place)
        if own is not None and own.checkpoint is not None:
            if _moment(own.checkpoint) == _moment(group.checkpoint):
                continue  # copied before
            replaced.add(own.checkpoint.digest)
        for part in group.checkpoint.parsed.stack():
            names[part.text()] = _renamed(part, salt)
        copied = names[group.checkpoint.name].text()
        seen.add(copied)
        if group.retired is not None:
            retired[name_digest(copied)] = group.retired
    carried = {name_digest(name.text()) for name in names.values() if name.text() not in seen}
    return _Copies(names, frozenset(carried | replaced), retired)


def _moment(checkpoint: CheckpointObject) -> bytes:
    """The tag without its last part, which copies change."""
    return checkpoint.parsed.label.tag[:-SALT_BYTES]


def _renamed(name: CheckpointName, salt: bytes) -> CheckpointName:
    return CheckpointName(name.space, name.label.copied(salt), tuple(label.copied(salt) for label in name.older))


def _numbers(objects_: Sequence[WritesObject]) -> dict[str, int]:
    """The greatest number among the objects of each task's ordinary writes."""
    numbers: dict[str, int] = {}
    for object_ in objects_:
        if object_.parsed.kind == "w":
            numbers[object_.parsed.task] = max(object_.parsed.number, numbers.get(object_.parsed.task, -1))
    return numbers
