"""Checkpoint records in objects of S3. A checkpoint is one object; `docs/s3.md` describes them all."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, repeat
from operator import itemgetter
from typing import TypeAlias

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.metadata import has_terms
from checkpoint_base.perprocess import PerProcess
from checkpoint_base.records import (
    Ancestry,
    ChannelValue,
    ChannelVersion,
    CheckpointRecord,
    Chunk,
    ChunkId,
    InboxQuery,
    InterruptRecord,
    ListQuery,
    Missing,
    StoredCheckpoint,
    ThreadRecord,
    WriteRecord,
)
from checkpoint_base.store import CheckpointStore
from checkpoint_base.transport import Operation
from checkpoint_s3.ancestry import follow
from checkpoint_s3.bucket import prepare
from checkpoint_s3.copying import Copier
from checkpoint_s3.format import Head, checkpoint_digest, checkpoint_object, writes_object
from checkpoint_s3.groups import CheckpointObject, Group, WritesObject, grouped
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import (
    CheckpointName,
    Keys,
    Kind,
    Label,
    WritesName,
    id_segment,
    label_of,
    segment_text,
    space_segment,
    task_digest,
)
from checkpoint_s3.memory import Memory
from checkpoint_s3.reader import JUST_NOW_SECONDS, Reader, growing, read_all_writes
from checkpoint_s3.removal import Remover
from checkpoint_s3.stack import Segment, Snapshot, closure, missing_chunks, plan
from checkpoint_s3.transport import Batch, List, Put, S3Transport
from checkpoint_s3.vanished import again_if_vanished

Body: TypeAlias = Callable[[Sequence[WriteRecord]], bytes]
"""Makes the content of an object that holds these writes."""

_NEWEST = 32
"""Names listed to find one checkpoint: enough for the writes of 30 tasks. Each takes the client 50 us."""

_NONCE_BYTES = 8


class S3Store(CheckpointStore):
    """A `CheckpointStore` in a bucket, below a prefix.

    Args:
        transport: executes its requests.
        prefix: what every key begins with; slashes make folders.
        grace: seconds for which removed objects stay stored before they are deleted (`docs/s3.md`).
    """

    def __init__(self, transport: S3Transport, prefix: str, grace: float) -> None:
        self._transport = transport
        self._reader = Reader(Keys(f"{prefix}/" if prefix else ""), PerProcess(Memory), grace)
        self._inbox = Inbox(self._reader)
        self._remover = Remover(self._reader, self._inbox)
        self._copier = Copier(self._reader, self._inbox, self._remover)

    @property
    def transport(self) -> S3Transport:
        return self._transport

    def setup(self) -> Operation[None]:
        yield from prepare(self._reader.keys, self._transport.bucket)
        yield from self._remover.sweep()

    # Writing

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        key, reader, memory = checkpoint.key, self._reader, self._reader.memory
        # These requests come before the look at the thread's ledger, which can be relied on only for a while.
        yield from reader.name_thread(key.thread_id)
        written_at = yield from self._moment(checkpoint)
        if checkpoint.open_channels and checkpoint.parent_id:
            if not (yield from self._can_be_parent(checkpoint)):
                return Missing(parent=True)
        else:
            yield from reader.renew(key.thread_id)
        known = replace(memory.thread(key.thread_id))
        drafts = memory.drafts(checkpoint.key.namespace)
        base = yield from self._base(checkpoint, values, {**drafts, **chunks}, unchanged)
        planned = plan(checkpoint, values, {**drafts, **chunks}, unchanged, base)
        if planned.missing:
            return planned.missing
        body = checkpoint_object(Head(checkpoint, planned.stored), planned.own)
        older = tuple(segment.label for segment in planned.behind)
        name = self._name(checkpoint, written_at, body, older)
        yield Put(reader.keys.folder(key.thread_id) + name.text(), body)
        if older and (yield from reader.is_overtaken(key.thread_id, known)):
            # What it refers to may be gone: put it once more, as a later one.
            later = replace(checkpoint, written_at=written_at + 1)
            return (yield from self.put(later, values, chunks, unchanged))
        segments = (Segment(name.label, planned.own, planned.own.size), *planned.behind)
        memory.remember(key, Snapshot(name, segments, planned.live))
        return Missing()

    def _moment(self, checkpoint: CheckpointRecord) -> Operation[int]:
        """The time of writing for the name of a checkpoint's object: later than of any put of its id known here."""
        key = checkpoint.key
        known = self._reader.memory.snapshot(key)
        earlier = [] if known is None else [known.name.label.written_at]
        if time.time_ns() // 1000 - checkpoint.written_at > JUST_NOW_SECONDS * 1_000_000:
            # Not a graph's new checkpoint, but one from elsewhere, which may have been put here before.
            (pages,) = yield from self._reader.everything([f"{self._place(key)}c"])
            present = self._reader.objects(key.thread_id, pages)
            earlier += [each.parsed.label.written_at for each in present if isinstance(each, CheckpointObject)]
        return max([checkpoint.written_at, *(moment + 1 for moment in earlier)])

    def _name(
        self, checkpoint: CheckpointRecord, written_at: int, body: bytes, older: tuple[Label, ...]
    ) -> CheckpointName:
        """A name for a checkpoint's object that the ledger does not hide: a removed object may have had the same."""
        key = checkpoint.key
        unseen = self._reader.memory.thread(key.thread_id).unseen
        while True:
            label = label_of(key.checkpoint_id, written_at, checkpoint.run_id, body)
            name = CheckpointName(space_segment(key.checkpoint_ns), label, older)
            if checkpoint_digest(name.text()) not in unseen:
                return name
            written_at += 1

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        reader, memory = self._reader, self._reader.memory
        yield from reader.name_thread(key.thread_id)
        asking = sorted({write.task_id for write in writes if write.questions}) if key.checkpoint_ns == "" else []
        if asking:
            # Before the question itself: a marker without a question is recognised, but a question without a marker is
            # never found.
            marked_at = reader.elapsed()
            yield Batch(self._inbox.marker(key, task_id) for task_id in asking)
        yield from reader.renew(key.thread_id)
        snapshot = memory.snapshot(key)
        state = {id_: chunk for id_ in snapshot.live if (chunk := snapshot.chunk(id_))} if snapshot else {}
        drafts = memory.drafts(key.namespace)
        brought = {**drafts, **chunks}
        if missing := missing_chunks(writes, state, brought):
            return Missing(frozenset(missing))

        def body(some: Sequence[WriteRecord]) -> bytes:
            needed, _ = closure((write.value for write in some), state, brought)
            own = [chunk for id_, chunk in needed.items() if id_ not in state]
            return writes_object(key, some, own, os.urandom(_NONCE_BYTES))

        yield from self._put_objects(key, writes, body)
        if asking and reader.elapsed() >= marked_at + reader.grace:
            # The process was suspended, say: a listing may have taken the markers to be left over from a crash.
            yield Batch(self._inbox.marker(key, task_id) for task_id in asking)
        memory.remember_writes(key, chunks)
        return Missing()

    def _put_objects(self, key: CheckpointKey, writes: Sequence[WriteRecord], body: Body) -> Operation[None]:
        """Store each special write as an object of its own, and the ordinary ones of each task as one more."""
        calls = [
            Put(self._writes_key(key, "x", write.task_id, -write.idx), body([write]))
            for write in writes
            if write.idx < 0
        ]
        by_task: dict[str, list[WriteRecord]] = {}
        for write in writes:
            if write.idx >= 0:
                by_task.setdefault(write.task_id, []).append(write)
        unsure = []
        tried = []
        written = self._reader.memory.space(key.namespace).written
        for task_id, some in by_task.items():
            number, known = written.get((key.checkpoint_id, task_id), (0, set()))
            if known.issuperset(write.idx for write in some):
                unsure.append(task_id)  # stored already, unless somebody has removed it since
                continue
            tried.append((task_id, number))
            calls.append(Put(self._writes_key(key, "w", task_id, number), body(some), if_absent=True))
        folder = self._reader.keys.folder(key.thread_id)
        names = [call.key.removeprefix(folder) for call in calls]
        unseen = self._reader.memory.thread(key.thread_id).unseen
        if veiled := [name for name in names if checkpoint_digest(name) in unseen]:
            yield from self._remover.unveil(key.thread_id, veiled)
        answers = yield Batch(calls)
        for (task_id, number), etag in zip(tried, answers[len(calls) - len(tried) :], strict=True):
            if etag is None:
                unsure.append(task_id)
            else:
                known = written.get((key.checkpoint_id, task_id), (0, set()))[1]
                indices = {write.idx for write in by_task[task_id]}
                written[key.checkpoint_id, task_id] = (number + 1, known | indices)
        for task_id in unsure:
            yield from self._add_writes(key, task_id, by_task[task_id], body)

    @again_if_vanished
    def _add_writes(
        self, key: CheckpointKey, task_id: str, writes: Sequence[WriteRecord], body: Body
    ) -> Operation[None]:
        """Store those ordinary writes of a task that are not stored yet, as an object numbered after those that are."""
        folder, task = self._reader.keys.folder(key.thread_id), task_digest(task_id)
        prefix = f"{self._place(key)}w{task}."
        memory = self._reader.memory.space(key.namespace).written
        while True:
            state = yield from self._reader.state(key.thread_id)
            (pages,) = yield from self._reader.everything([prefix])
            listed = [*self._reader.objects(key.thread_id, pages)]
            kept = [object_ for group in grouped(listed, state.ledger) for object_ in group.writes]
            bodies = yield from self._reader.bodies([object_.key for object_ in kept])
            stored, _ = read_all_writes(kept, bodies)
            indices = {write.idx for write in stored}
            numbers = (object_.parsed.number for object_ in listed if isinstance(object_, WritesObject))
            following = max(numbers, default=-1) + 1
            memory[key.checkpoint_id, task_id] = (following, indices)
            rest = [write for write in writes if write.idx not in indices]
            if not rest:
                return
            name = self._writes_key(key, "w", task_id, following)
            while checkpoint_digest(name.removeprefix(folder)) in state.ledger.unseen:
                following += 1
                name = self._writes_key(key, "w", task_id, following)
            if (yield Put(name, body(rest), if_absent=True)) is not None:
                memory[key.checkpoint_id, task_id] = (following + 1, indices | {write.idx for write in rest})
                return

    def _base(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Sequence[Segment]]:
        """The objects that a new checkpoint may refer to: its parent's, which are read first if they are unknown."""
        if checkpoint.parent_id is None:
            return ()
        parent = CheckpointKey(checkpoint.key.thread_id, checkpoint.key.checkpoint_ns, checkpoint.parent_id)
        known = self._reader.memory.snapshot(parent)
        if known is None and plan(checkpoint, values, chunks, unchanged, ()).missing:
            yield from self.load(checkpoint.key.namespace, checkpoint.parent_id)
            known = self._reader.memory.snapshot(parent)
        return known.segments if known else ()

    def _can_be_parent(self, checkpoint: CheckpointRecord) -> Operation[bool]:
        """Whether the parent still has the writes to a checkpoint's open channels: a retired one has kept only some."""
        parent = CheckpointKey(checkpoint.key.thread_id, checkpoint.key.checkpoint_ns, checkpoint.parent_id or "")
        state = yield from self._reader.state(parent.thread_id)
        known = self._reader.memory.snapshot(parent)
        if known is not None:  # if the ledger hid it, it would have been forgotten
            retired = state.ledger.retired.get(checkpoint_digest(known.name.text()))
            return retired is None or retired.issuperset(checkpoint.open_channels)
        (pages,) = yield from self._reader.everything([self._place(parent)])
        for group in grouped(self._reader.objects(parent.thread_id, pages), state.ledger):
            if group.checkpoint is not None:
                return group.retired is None or group.retired.issuperset(checkpoint.open_channels)
        return False

    def _place(self, key: CheckpointKey) -> str:
        space = space_segment(key.checkpoint_ns)
        return f"{self._reader.keys.folder(key.thread_id)}{space}{id_segment(key.checkpoint_id)}/"

    def _writes_key(self, key: CheckpointKey, kind: Kind, task_id: str, number: int) -> str:
        name = WritesName(space_segment(key.checkpoint_ns), key.checkpoint_id, kind, task_digest(task_id), number)
        return self._reader.keys.folder(key.thread_id) + name.text()

    # Reading

    @again_if_vanished
    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        group = yield from self._find(key, checkpoint_id)
        if group is None:
            return None
        (stored,) = yield from self._reader.contents([group], remember=True)
        return stored

    def _find(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[Group | None]:
        """One checkpoint of a namespace, or its latest: usually one request."""
        prefix = self._reader.keys.folder(key.thread_id) + space_segment(key.checkpoint_ns)
        if checkpoint_id is not None:
            prefix += f"{id_segment(checkpoint_id)}/"
        groups = yield from self._reader.first_groups(
            key.thread_id, List(prefix, limit=_NEWEST), lambda groups: any(group.visible for group in groups)
        )
        return next((group for group in groups if group.visible), None)

    @again_if_vanished
    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        wanted = yield from self._listing(query)
        page: list[StoredCheckpoint] = []
        at_once = growing() if query.terms else repeat(0)
        while (room := query.limit - len(page)) > 0:
            some = [*islice(wanted, max(room, next(at_once)))]
            if not some:
                break
            if query.terms or not query.contents:
                heads = yield from self._reader.heads([group.existing for group in some])
                matching = [
                    (group, head.record)
                    for group, head in zip(some, heads, strict=True)
                    if has_terms(head.record.terms, query.terms)
                ]
                if not query.contents:
                    page += [StoredCheckpoint(record, {}, (), {}) for _, record in matching[:room]]
                    continue
                some = [group for group, _ in matching[:room]]
            page += yield from self._reader.contents(some)
        return page

    def _listing(self, query: ListQuery) -> Operation[Iterator[Group]]:
        """The visible checkpoints that match a query except for its terms, in its order."""
        surveyed = yield from self._surveyed(query)
        visible = [group for group in surveyed if group.visible]
        after = _order(query.after) if query.after else None
        # Where a segment is only a digest, an object tells its namespace. That matters only to the order of those with
        # the same id, and a thread may have thousands of namespaces.
        ids = Counter((group.checkpoint_id, group.thread_id) for group in visible)
        if after is not None:
            ids[after[:2]] += 1
        examples = {
            (group.thread_id, group.space): group.existing
            for group in visible
            if ids[group.checkpoint_id, group.thread_id] > 1 and segment_text(group.space) is None
        }
        heads = yield from self._reader.heads([*examples.values()])
        namespaces = {place: head.record.key.checkpoint_ns for place, head in zip(examples, heads, strict=True)}
        found = []
        for group in visible:
            namespace = namespaces.get((group.thread_id, group.space)) or segment_text(group.space) or ""
            position = (group.checkpoint_id, group.thread_id, namespace)
            if (
                query.checkpoint_id in (None, group.checkpoint_id)
                and (query.before is None or group.checkpoint_id < query.before)
                and (after is None or position < after)
            ):
                found.append((position, group))
        found.sort(key=itemgetter(0), reverse=True)
        return iter([group for _, group in found])

    def _surveyed(self, query: ListQuery) -> Operation[Sequence[Group]]:
        """Checkpoints among which are those of a page: all that match, or enough of the first."""
        if query.thread_id is None:
            surveyed = yield from self._reader.survey_all()
            return [group for _, groups in surveyed.values() for group in groups]
        if query.checkpoint_ns is not None:
            return (yield from self._space_groups(query))
        if query.checkpoint_id is None and not query.terms:
            return (yield from self._thread_groups(query.thread_id, query))
        ((_, groups),) = yield from self._reader.survey([query.thread_id])
        return groups

    def _space_groups(self, query: ListQuery) -> Operation[Sequence[Group]]:
        """Enough checkpoints of one namespace for a page, from where it starts; all of them if the query has terms."""
        thread_id = query.thread_id or ""
        prefix = self._reader.keys.folder(thread_id) + space_segment(query.checkpoint_ns or "")
        after = f"{prefix}{id_segment(query.below)}/~" if query.below else ""
        if query.checkpoint_id is not None:
            prefix, after = f"{prefix}{id_segment(query.checkpoint_id)}/", ""

        def enough(groups: Sequence[Group]) -> bool:
            return not query.terms and sum(group.visible is not None for group in groups) >= query.limit

        return (yield from self._reader.first_groups(thread_id, List(prefix, after=after), enough))

    def _thread_groups(self, thread_id: str, query: ListQuery) -> Operation[Sequence[Group]]:
        """Enough checkpoints of a thread for a page in all its namespaces, from where it starts."""
        root = f"{self._reader.keys.folder(thread_id)}{space_segment('')}"
        # From this id on, which another namespace may have as well: the root namespace's comes last.
        start = f"{root}{id_segment(query.below)}" if query.below else ""

        def enough(groups: Sequence[Group]) -> bool:
            return sum(group.visible is not None for group in groups) > query.limit

        return (yield from self._reader.survey_newest(thread_id, root, start, enough))

    @again_if_vanished
    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        return follow(self._reader, key, checkpoint_id, channels)

    @again_if_vanished
    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        return self._inbox.threads(query)

    @again_if_vanished
    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        return self._inbox.interrupts(query)

    # Removing and copying

    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        return self._remover.delete(thread_ids)

    @again_if_vanished
    def delete_runs(self, run_ids: Sequence[str], thread_id: str | None = None) -> Operation[None]:
        return self._remover.delete_runs(frozenset(run_ids), thread_id)

    @again_if_vanished
    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        return self._copier.copy(source, target)

    @again_if_vanished
    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        return self._remover.prune(thread_ids, keep)


def _order(key: CheckpointKey) -> tuple[str, str, str]:
    return (key.checkpoint_id, key.thread_id, key.checkpoint_ns)
