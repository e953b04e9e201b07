"""Checkpoint records in objects of S3. A checkpoint is one object; `docs/s3.md` describes them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.metadata import has_terms
from checkpoint_base.per_process import PerProcess
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
from checkpoint_s3.groups import Group
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import Keys, segment_text
from checkpoint_s3.memory import Memory
from checkpoint_s3.reader import Reader, candidates
from checkpoint_s3.removal import Remover
from checkpoint_s3.survey import Surveyor
from checkpoint_s3.transport import List, S3Transport
from checkpoint_s3.vanished import again_if_vanished
from checkpoint_s3.writing import Writer


class S3Store(CheckpointStore):
    """A `CheckpointStore` in a bucket, below a prefix.

    Args:
        transport: executes its requests.
        prefix: what every key begins with; slashes make folders.
        grace: seconds for which removed objects stay stored before they are deleted (`docs/s3.md`).
    """

    def __init__(self, transport: S3Transport, prefix: str, grace: float) -> None:
        self._transport = transport
        self._surveyor = Surveyor(Keys(f"{prefix}/" if prefix else ""), PerProcess(Memory), grace)
        self._reader = Reader(self._surveyor)
        self._inbox = Inbox(self._reader)
        self._remover = Remover(self._reader, self._inbox)
        self._writer = Writer(self._reader, self._inbox, self._remover)
        self._copier = Copier(self._reader, self._inbox, self._remover)

    @property
    def transport(self) -> S3Transport:
        return self._transport

    def setup(self) -> Operation[None]:
        yield from prepare(self._surveyor.keys, self._transport.bucket)
        yield from self._remover.tidy()

    # Writing

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        return self._writer.put(checkpoint, values, chunks, unchanged)

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        return self._writer.put_writes(key, writes, chunks)

    # Reading

    @again_if_vanished
    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        group = yield from self._surveyor.find(key, checkpoint_id)
        if group is None:
            return None
        (stored,) = yield from self._reader.contents([group], remember=True)
        return stored

    @again_if_vanished
    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        wanted = yield from self._listing(query)
        page: list[StoredCheckpoint] = []
        for some in candidates(wanted, page, query):
            if query.terms or not query.contents:
                heads = yield from self._reader.heads([group.existing for group in some])
                matching = [
                    (group, head.record)
                    for group, head in zip(some, heads, strict=True)
                    if has_terms(head.record.terms, query.terms)
                ]
                matching = matching[: query.limit - len(page)]
                if not query.contents:
                    page += [StoredCheckpoint(record, {}, (), {}) for _, record in matching]
                    continue
                some = [group for group, _ in matching]
            page += yield from self._reader.contents(some)
        return page

    def _listing(self, query: ListQuery) -> Operation[Sequence[Group]]:
        """The visible checkpoints that match a query except for its terms, in its order."""
        surveyed = yield from self._surveyed(query)
        visible = [group for group in surveyed if group.visible]
        after = query.after.list_order if query.after else None
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
        return [group for _, group in found]

    def _surveyed(self, query: ListQuery) -> Operation[Sequence[Group]]:
        """Checkpoints among which are those of a page: all that match, or enough of the first."""
        if query.thread_id is None:
            surveyed = yield from self._surveyor.survey_all()
            return [group for _, groups in surveyed.values() for group in groups]
        if query.checkpoint_ns is not None:
            return (yield from self._space_groups(query.thread_id, query))
        if query.checkpoint_id is None and not query.terms:
            # One more, because the first of them may be the last of the page before.
            return (yield from self._surveyor.survey_newest(query.thread_id, query.below, query.limit + 1))
        ((_, groups),) = yield from self._surveyor.survey([query.thread_id])
        return groups

    def _space_groups(self, thread_id: str, query: ListQuery) -> Operation[Sequence[Group]]:
        """Enough checkpoints of one namespace for a page, from where it starts; all of them if the query has terms."""
        key, keys = NamespaceKey(thread_id, query.checkpoint_ns or ""), self._surveyor.keys
        after = f"{keys.space(key, query.below)}~" if query.below and query.checkpoint_id is None else ""
        call = List(keys.space(key, query.checkpoint_id), after=after)
        return (yield from self._surveyor.first_groups(thread_id, call, enough=None if query.terms else query.limit))

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
