"""Copies threads. The copy stays hidden (veiled) until it is complete, when one change of its ledger reveals it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from checkpoint_base.errors import StoreUnavailable
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.transport import Operation
from checkpoint_s3.format import Ledger, checkpoint_digest, read_writes, read_writes_place, without, writes_object
from checkpoint_s3.groups import CheckpointObject, Group, WritesObject, names_of
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import CheckpointName, Label, WritesName, space_segment
from checkpoint_s3.reader import Reader, State, read_all_writes
from checkpoint_s3.removal import Remover
from checkpoint_s3.stack import closure
from checkpoint_s3.transport import Batch, Copy, Put
from checkpoint_s3.vanished import Changed, Vanished

_SALT_BYTES = 3


@dataclass(frozen=True, slots=True)
class _Copies:
    """What to copy, and what the copy's ledger will say of it.

    ``objects`` has the copies' names by those of the originals. ``hidden`` has the digests of objects that stay hidden:
    copies that only hold state for others, and checkpoints of the target that copies replace.
    """

    objects: Mapping[str, CheckpointName]
    hidden: frozenset[bytes]
    retired: Mapping[bytes, frozenset[str]]


def copy(reader: Reader, inbox: Inbox, remover: Remover, source: str, target: str) -> Operation[bool]:
    """`CheckpointStore.copy_thread`."""
    (theirs, originals), (_, present) = yield from reader.survey([source, target])
    if not any(group.checkpoint or group.writes for group in originals):
        return True
    known = {group.place for group in originals if group.visible}
    mine = {group.place: group for group in present}
    if any(group.visible and place not in known for place, group in mine.items()):
        return False
    token = os.urandom(8)
    copies = _copies(originals, mine, token[:_SALT_BYTES])
    writes = yield from _writes_to_add(reader, target, originals, mine)
    if not copies.objects and not writes:
        return True
    ((created_at, updated_at),) = yield from reader.times([(theirs, originals)])
    yield from reader.name_thread(target)
    folders = reader.keys.folder(source), reader.keys.folder(target)
    names = {name.text() for name in copies.objects.values()} | {put.key.removeprefix(folders[1]) for put in writes}
    veil = frozenset(map(checkpoint_digest, names))
    kept = {object_.name for group in present for object_ in group.current}

    def veiled(state: State, groups: Sequence[Group]) -> Operation[Ledger]:
        yield from ()
        there = {each.name for group in groups for each in group.writes}
        if there & names:  # another copy, say, has stored them meanwhile: a veil would hide them
            raise Changed(target)
        return replace(state.ledger, veiled={**state.ledger.veiled, token: (state.now, veil)})

    def lifted(state: State, groups: Sequence[Group]) -> Operation[Ledger]:
        yield from ()
        if token not in state.ledger.veiled:
            raise StoreUnavailable(f"copying thread {source!r} took so long that what had been copied was swept up")
        removed = state.ledger.removed
        there = {name for name, object_ in names_of(groups).items() if object_.digest not in removed}
        if not there >= names | kept:  # somebody has removed a part of the target meanwhile
            raise Changed(target)
        return replace(
            state.ledger,
            created_at=created_at,
            updated_at=max(updated_at, state.ledger.updated_at),
            hidden=(*state.ledger.hidden, (state.now, copies.hidden)),
            retired={**state.ledger.retired, **copies.retired},
            # A copy that was not completed may veil the same names of writes, so its veil is lifted from them, too. The
            # empty batch tells readers that something has just appeared.
            veiled={**without(state.ledger.veiled, veil), token: (state.now, frozenset())},
        )

    yield from remover.amend(target, veiled)
    if copies.objects:
        done = yield Batch(
            Copy(folders[0] + name, folders[1] + copied.text()) for name, copied in copies.objects.items()
        )
        if lost := [name for name, copied in zip(copies.objects, done, strict=True) if not copied]:
            raise Vanished(reader.named(folders[0] + lost[0]))
    if writes:
        yield from _put_writes(reader, remover, target, writes)
    yield from _mark(inbox, target, originals)
    yield from remover.amend(target, lifted)
    return True


def _copies(originals: Sequence[Group], mine: Mapping[tuple[str, str], Group], salt: bytes) -> _Copies:
    """Decide which objects to copy under which names: never one that the target has had, which its ledger may hide."""
    objects: dict[str, CheckpointName] = {}
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
            objects[part.text()] = _renamed(part, salt)
        copied = objects[group.checkpoint.name].text()
        seen.add(copied)
        if group.retired is not None:
            retired[checkpoint_digest(copied)] = group.retired
    carried = {checkpoint_digest(name.text()) for name in objects.values() if name.text() not in seen}
    return _Copies(objects, frozenset(carried | replaced), retired)


def _moment(checkpoint: CheckpointObject) -> bytes:
    """The tag without its last part, which copies change."""
    return checkpoint.parsed.label.tag[:-_SALT_BYTES]


def _renamed(name: CheckpointName, salt: bytes) -> CheckpointName:
    def salted(label: Label) -> Label:
        mixed = bytes(one ^ other for one, other in zip(label.tag[-_SALT_BYTES:], salt, strict=True))
        return Label(label.checkpoint_id, label.tag[:-_SALT_BYTES] + mixed)

    return CheckpointName(name.space, salted(name.label), tuple(salted(label) for label in name.older))


def _writes_to_add(
    reader: Reader, target: str, originals: Sequence[Group], mine: Mapping[tuple[str, str], Group]
) -> Operation[list[Put]]:
    """The writes that the target does not have, as new objects numbered after those it has."""
    folder = reader.keys.folder(target)
    places = [group for group in originals if group.writes]
    present = [own.writes if (own := mine.get(group.place)) else [] for group in places]
    bodies = yield from reader.bodies(
        [each.key for writes in (*(group.writes for group in places), *present) for each in writes]
    )
    # Only the visible state of a checkpoint is copied, but its writes may refer to chunks of a replaced one.
    changed = [group for group in places if len(group.checkpoints) > (group.checkpoint is not None)]
    replaced = yield from reader.replaced(changed)
    older = {group.place: chunks for group, chunks in zip(changed, replaced, strict=True)}
    puts: list[Put] = []
    for group, some in zip(places, present, strict=True):
        before = older.get(group.place, {})
        stored, _ = read_all_writes(some, bodies)
        taken = {(write.task_id, write.idx) for write in stored}
        own = mine.get(group.place)
        others = [other for other in own.others if isinstance(other, WritesObject)] if own else []
        numbers = _numbers([*own.writes, *others] if own else [])
        for each in sorted(group.writes, key=lambda object_: object_.parsed.number):
            body = bodies[each.key]
            found, chunks = read_writes(body, reader.named(each.key))
            rest = [write for write in found if (write.task_id, write.idx) not in taken]
            if not rest:
                continue
            taken.update((write.task_id, write.idx) for write in rest)
            name = each.parsed
            etag = None
            if name.kind == "x":
                # The target's object of this name must be a hidden one: a visible one is in `taken`.
                etag = next((other.etag for other in others if other.parsed == name), None)
            else:
                number = numbers.get(name.task, -1) + 1
                numbers[name.task] = number
                name = WritesName(name.space, name.checkpoint_id, "w", name.task, number)
            needed, _ = closure((write.value for write in rest), chunks, before)
            checkpoint_ns, checkpoint_id, _ = read_writes_place(body, reader.named(each.key))
            key = CheckpointKey(target, checkpoint_ns, checkpoint_id)
            object_ = writes_object(key, rest, needed.values(), os.urandom(8))
            puts.append(Put(folder + name.text(), object_, if_absent=etag is None, if_match=etag))
    return puts


def _put_writes(reader: Reader, remover: Remover, target: str, puts: Sequence[Put]) -> Operation[None]:
    done = yield Batch(puts)
    refused = [put for put, etag in zip(puts, done, strict=True) if etag is None]
    stored = yield from reader.bodies([put.key for put in refused])
    folder = reader.keys.folder(target)
    taken = [put.key.removeprefix(folder) for put in refused if stored[put.key] != put.body]
    if taken:  # by another writer, whose objects must not stay hidden; otherwise only the answer was lost
        yield from remover.unveil(target, taken)
        raise Changed(target)


def _mark(inbox: Inbox, target: str, originals: Sequence[Group]) -> Operation[None]:
    """Mark in the target the tasks that may be waiting on its latest checkpoint, or on one that has yet to arrive.

    The writes say which. The source may have lost its markers, because it has gone on since.
    """
    root = [group for group in originals if group.space == space_segment("")]
    latest = max((group.checkpoint_id for group in root if group.visible), default="")
    for group in root:
        if group.checkpoint_id >= latest:
            yield from inbox.mark_again(group, copied_to=target)


def _numbers(found: Collection[WritesObject]) -> dict[str, int]:
    """The greatest number among the objects of each task's ordinary writes, hidden or not."""
    numbers: dict[str, int] = {}
    for object_ in found:
        if object_.parsed.kind == "w":
            numbers[object_.parsed.task] = max(object_.parsed.number, numbers.get(object_.parsed.task, -1))
    return numbers
