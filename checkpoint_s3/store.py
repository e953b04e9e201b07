"""Checkpoint records in objects of S3. A checkpoint is one object; `docs/s3.md` describes them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from checkpoint_base.keys import CheckpointKey, NamespaceKey
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
from checkpoint_s3.inbox import Inbox
from checkpoint_s3.layout import Keys
from checkpoint_s3.listing import Lister
from checkpoint_s3.memory import Memory
from checkpoint_s3.reader import Reader
from checkpoint_s3.removal import Remover
from checkpoint_s3.survey import Surveyor
from checkpoint_s3.transport import S3Transport
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
        self._lister = Lister(self._reader)
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
        return self._lister.list(query)

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
