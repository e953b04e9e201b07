"""Stores checkpoints and writes: each `put` and `put_writes` is one object, if it can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import (
    ChannelValue,
    ChannelVersion,
    CheckpointRecord,
    Chunk,
    ChunkId,
    Missing,
    WriteRecord,
    closure,
)
from checkpoint_base.transport import Operation
from checkpoint_s3.format import Head, checkpoint_object, name_digest, writes_object
from checkpoint_s3.groups import CheckpointObject, ThreadObject, WritesObject, grouped
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import CheckpointName, Kind, Label, WritesName, label_of, space_segment, task_digest
from checkpoint_s3.reader import Reader, read_all_writes
from checkpoint_s3.removal import Remover
from checkpoint_s3.stack import Segment, Snapshot, missing_chunks, plan
from checkpoint_s3.transport import Batch, Put
from checkpoint_s3.vanished import again_if_vanished

JUST_NOW_SECONDS = 5
"""A checkpoint that is put longer than this after it was written comes from elsewhere: transferred, or imported."""

Body: TypeAlias = Callable[[Sequence[WriteRecord]], bytes]
"""Makes the content of an object that holds these writes."""


class Writer:
    """Stores checkpoints and writes.

    Args:
        reader: what the store reads with; its surveyor is what it lists with.
        inbox: marks tasks that are about to ask.
        remover: makes visible what an unfinished copy hides.
    """

    def __init__(self, reader: Reader, inbox: Inbox, remover: Remover) -> None:
        self._surveyor = reader.surveyor
        self._reader = reader
        self._inbox = inbox
        self._remover = remover

    # Checkpoints

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        key, surveyor, memory = checkpoint.key, self._surveyor, self._surveyor.memory
        # These requests come before the look at the thread's ledger, which can be relied on only for a while.
        yield from surveyor.name_thread(key.thread_id)
        written_at = yield from self._moment(checkpoint)
        if checkpoint.open_channels and checkpoint.parent_id:
            if not (yield from self._can_be_parent(checkpoint)):
                return Missing(parent=True)
        else:
            yield from surveyor.renew(key.thread_id)
        known = memory.known(key.thread_id)
        brought = {**memory.drafts(key.namespace), **chunks}
        base = yield from self._base(checkpoint, values, brought, unchanged)
        planned = plan(checkpoint, values, brought, unchanged, base)
        if planned.missing:
            return planned.missing
        body = checkpoint_object(Head(checkpoint, planned.stored), planned.own)
        older = tuple(segment.label for segment in planned.behind)
        name = self._name(checkpoint, written_at, body, older)
        yield Put(surveyor.keys.folder(key.thread_id) + name.text(), body)
        if older and (yield from surveyor.is_overtaken(key.thread_id, known)):
            # What it refers to may be gone: put it once more, as a later one.
            later = replace(checkpoint, written_at=written_at + 1)
            return (yield from self.put(later, values, chunks, unchanged))
        segments = (Segment(name.label, planned.own, planned.own.size), *planned.behind)
        memory.remember(key, Snapshot(name, segments, planned.live), known.nonce)
        return Missing()

    def _moment(self, checkpoint: CheckpointRecord) -> Operation[int]:
        """The time of writing for the name of a checkpoint's object: later than of any put of its id known here."""
        key = checkpoint.key
        known = self._surveyor.memory.snapshot(key)
        earlier = [] if known is None else [known.name.label.written_at]
        if time.time_ns() // 1000 - checkpoint.written_at > JUST_NOW_SECONDS * 1_000_000:
            # Not a graph's new checkpoint, but one from elsewhere, which may have been put here before.
            present = yield from self._listed(key, "c")
            earlier += [each.parsed.label.written_at for each in present if isinstance(each, CheckpointObject)]
        return max([checkpoint.written_at, *(moment + 1 for moment in earlier)])

    def _name(
        self, checkpoint: CheckpointRecord, written_at: int, body: bytes, older: tuple[Label, ...]
    ) -> CheckpointName:
        """A name for a checkpoint's object that the ledger does not hide: a removed object may have had the same."""
        key = checkpoint.key
        unseen = self._surveyor.memory.thread(key.thread_id).unseen
        while True:
            label = label_of(key.checkpoint_id, written_at, checkpoint.run_id, body)
            name = CheckpointName(space_segment(key.checkpoint_ns), label, older)
            if name_digest(name.text()) not in unseen:
                return name
            written_at += 1

    def _base(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Sequence[Segment]]:
        """The objects that a new checkpoint may refer to: its parent's, which are read first if they are unknown.

        They tell of each channel that is not brought whether it has a value at its version. In a run they are known.
        """
        if checkpoint.parent_id is None:
            return ()
        parent = _parent(checkpoint, checkpoint.parent_id)
        known = self._surveyor.memory.snapshot(parent)
        if known is None:
            brought = {(value.channel, value.version) for value in values}
            is_whole = brought.issuperset(checkpoint.channels)
            if not is_whole or plan(checkpoint, values, chunks, unchanged, ()).missing:
                yield from self._remember(parent)
                known = self._surveyor.memory.snapshot(parent)
        return known.segments if known else ()

    @again_if_vanished
    def _remember(self, key: CheckpointKey) -> Operation[None]:
        """Read a checkpoint, if it exists, so that it is remembered."""
        group = yield from self._surveyor.find(key.namespace, key.checkpoint_id)
        if group is not None:
            yield from self._reader.contents([group], remember=True)

    def _can_be_parent(self, checkpoint: CheckpointRecord) -> Operation[bool]:
        """Whether the parent still has the writes to a checkpoint's open channels: a retired one has kept only some."""
        parent = _parent(checkpoint, checkpoint.parent_id or "")
        read = yield from self._surveyor.ledger(parent.thread_id)
        known = self._surveyor.memory.snapshot(parent)
        if known is not None:  # if the ledger hid it, it would have been forgotten
            retired = read.ledger.retired.get(name_digest(known.name.text()))
            return retired is None or retired.issuperset(checkpoint.open_channels)
        groups = grouped((yield from self._listed(parent)), read.ledger)
        return any(group.has_writes_to(checkpoint.open_channels) for group in groups)

    # Writes

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        surveyor, memory = self._surveyor, self._surveyor.memory
        yield from surveyor.name_thread(key.thread_id)
        asking = sorted({write.task_id for write in writes if write.questions}) if key.checkpoint_ns == "" else []
        if asking:
            # Before the question itself: a marker without a question is recognised, but a question without a marker is
            # never found.
            marked_at = surveyor.elapsed()
            yield Batch(self._inbox.marker(key, task_id) for task_id in asking)
        yield from surveyor.renew(key.thread_id)
        snapshot = memory.snapshot(key)
        state = snapshot.chunks if snapshot else {}
        brought = {**memory.drafts(key.namespace), **chunks}
        if missing := missing_chunks(writes, state, brought):
            return Missing(frozenset(missing))

        def body(some: Sequence[WriteRecord]) -> bytes:
            needed, _ = closure((write.value for write in some), state, brought)
            own = [chunk for id_, chunk in needed.items() if id_ not in state]
            return writes_object(key, some, own)

        yield from self._put_objects(key, writes, body)
        if asking and surveyor.elapsed() >= marked_at + surveyor.grace:
            # The process was suspended, say: a listing may have taken the markers to be left over from a crash.
            yield Batch(self._inbox.marker(key, task_id) for task_id in asking)
        memory.remember_writes(key, chunks)
        return Missing()

    def _put_objects(self, key: CheckpointKey, writes: Sequence[WriteRecord], body: Body) -> Operation[None]:
        """Store each special write as an object of its own, and the ordinary ones of each task as one more."""
        parts = [(_writes_name(key, "x", write.task_id, -write.idx), [write]) for write in writes if write.idx < 0]
        by_task: dict[str, list[WriteRecord]] = {}
        for write in writes:
            if write.idx >= 0:
                by_task.setdefault(write.task_id, []).append(write)
        written = self._surveyor.memory.space(key.namespace).written
        for task_id, some in by_task.items():
            number, known = written.get((key.checkpoint_id, task_id), (0, set()))
            # Otherwise they are stored already, unless somebody has removed them since.
            if not known.issuperset(write.idx for write in some):
                parts.append((_writes_name(key, "w", task_id, number), some))
        unseen = self._surveyor.memory.thread(key.thread_id).unseen
        if veiled := [name.text() for name, _ in parts if name_digest(name.text()) in unseen]:
            yield from self._remover.unveil(key.thread_id, veiled)
        folder = self._surveyor.keys.folder(key.thread_id)
        etags = yield Batch(Put(folder + name.text(), body(some), if_absent=name.kind == "w") for name, some in parts)
        unsure = dict(by_task)
        for (name, some), etag in zip(parts, etags, strict=True):
            if name.kind == "w" and etag is not None:
                task_id = some[0].task_id
                known = written.get((key.checkpoint_id, task_id), (0, set()))[1]
                written[key.checkpoint_id, task_id] = (name.number + 1, known | {write.idx for write in some})
                del unsure[task_id]
        for task_id, some in unsure.items():
            yield from self._add_writes(key, task_id, some, body)

    @again_if_vanished
    def _add_writes(
        self, key: CheckpointKey, task_id: str, writes: Sequence[WriteRecord], body: Body
    ) -> Operation[None]:
        """Store those ordinary writes of a task that are not stored yet, as an object numbered after those that are."""
        folder = self._surveyor.keys.folder(key.thread_id)
        written = self._surveyor.memory.space(key.namespace).written
        while True:
            read = yield from self._surveyor.ledger(key.thread_id)
            listed = yield from self._listed(key, f"w{task_digest(task_id)}.")
            kept = [object_ for group in grouped(listed, read.ledger) for object_ in group.writes]
            bodies = yield from self._reader.bodies([object_.key for object_ in kept])
            stored, _ = read_all_writes(kept, bodies)
            indices = {write.idx for write in stored}
            numbers = (object_.parsed.number for object_ in listed if isinstance(object_, WritesObject))
            following = max(numbers, default=-1) + 1
            written[key.checkpoint_id, task_id] = (following, indices)
            rest = [write for write in writes if write.idx not in indices]
            if not rest:
                return
            name = _writes_name(key, "w", task_id, following)
            while name_digest(name.text()) in read.ledger.unseen:
                name = replace(name, number=name.number + 1)
            if (yield Put(folder + name.text(), body(rest), if_absent=True)) is not None:
                written[key.checkpoint_id, task_id] = (name.number + 1, indices | {write.idx for write in rest})
                return

    def _listed(self, key: CheckpointKey, prefix: str = "") -> Operation[Sequence[ThreadObject]]:
        """The objects of a checkpoint and its writes, or those of them whose names begin with ``prefix`` there."""
        place = self._surveyor.keys.space(key.namespace, key.checkpoint_id)
        (pages,) = yield from self._surveyor.everything([place + prefix])
        return [*self._surveyor.objects(key.thread_id, pages)]


def _parent(checkpoint: CheckpointRecord, parent_id: str) -> CheckpointKey:
    return CheckpointKey(checkpoint.key.thread_id, checkpoint.key.checkpoint_ns, parent_id)


def _writes_name(key: CheckpointKey, kind: Kind, task_id: str, number: int) -> WritesName:
    return WritesName(space_segment(key.checkpoint_ns), key.checkpoint_id, kind, task_digest(task_id), number)
