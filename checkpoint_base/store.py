"""The interface that a storage adapter implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.records import (
    Ancestry,
    ChannelValue,
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
from checkpoint_base.transport import Operation, Transport

THREADS_AT_ONCE = 64
"""Threads that one request removes from: their writers may have to wait until all of them are done."""


class CheckpointStore(ABC):
    """Keeps records and bytes; what they mean to LangGraph is the saver's business.

    Each method is an operation: a generator that yields requests for `transport` and returns the result (see
    `checkpoint_base.transport`). Every operation

    - is atomic: others see all of it or nothing, also after a crash in the middle;
    - is durable when it returns;
    - is idempotent: repeating it with the same arguments, also after an unknown outcome, changes nothing more;
    - treats what is missing as empty, and what cannot be reached as `StoreUnavailable`, never as empty;
    - raises `CorruptCheckpoint` when something that it stored is gone or unreadable.

    Ids arrive checked (`checkpoint_base.keys`); they compare as text by code point, and the greatest checkpoint id of
    a namespace is its latest, whichever was put last. A checkpoint that has been *retired* (see `prune`) is found by
    `ancestry` alone.
    """

    @property
    @abstractmethod
    def transport(self) -> Transport:
        """Executes this store's requests; owned by the store."""

    @abstractmethod
    def setup(self) -> Operation[None]:
        """Create what the store needs. Any number of callers may do so at once.

        Raises:
            SchemaMismatch: the storage belongs to something else, or to a newer version of this package.
        """

    @abstractmethod
    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[tuple[str, str]],
    ) -> Operation[Missing]:
        """Store a checkpoint with the values that it brings; replaces a checkpoint of the same key, also a retired one.

        The checkpoint relies on what is stored already, and anybody may have removed that meanwhile: chunks that
        ``values`` refer to or a node in ``chunks`` names and that are not among ``chunks``; the values of the
        ``unchanged`` (channel, version) pairs; the parent, if there are ``open_channels``: visible, or retired with
        its writes to all of them. Returns what of it is missing. If anything is, nothing has been stored.

        Writes of the checkpoint, which may have arrived before it, stay as they are.
        """

    @abstractmethod
    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        """Store pending writes of a checkpoint, which need not exist yet; at least one, each (task_id, idx) once.

        A stored write with the same ``(task_id, idx)`` stays when ``idx >= 0`` and is replaced when ``idx < 0``.
        ``chunks`` and the result are as in `put`.
        """

    @abstractmethod
    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        """Return one checkpoint with its values and writes, or the latest of the namespace when no id is given."""

    @abstractmethod
    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        """Return one page of checkpoints, ``query.limit`` of them unless it is the last."""

    @abstractmethod
    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        """Follow the parents of a checkpoint (or of the latest) and collect what they contributed to ``channels``.

        The first is the parent. A channel is open until an ancestor has a stored value for it; that ancestor's own
        writes to it still count. Retired ancestors count like others, parents may be missing or form a ring, and a
        checkpoint that does not exist has no ancestors. The number of requests does not depend on their number.
        """

    @abstractmethod
    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        """Remove everything of these threads, `THREADS_AT_ONCE` at most."""

    @abstractmethod
    def delete_runs(self, run_ids: Sequence[str]) -> Operation[None]:
        """Remove the checkpoints of these runs with their writes, in every thread, as `prune` removes checkpoints.

        Atomic for each thread. A thread that gets its first checkpoint of a run meanwhile may keep it.
        """

    @abstractmethod
    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        """Copy everything of a thread under another id; a missing source copies nothing.

        A target that exists keeps its writes. Returns False, and changes nothing, when the target has a visible
        checkpoint that the source has not.
        """

    @abstractmethod
    def prune(self, thread_ids: Sequence[str]) -> Operation[None]:
        """Keep only the latest checkpoint of every namespace of these threads, and exactly what it refers to.

        They are `THREADS_AT_ONCE` at most.

        Where a kept checkpoint has a channel without a stored value that was ever among ``open_channels`` in its
        namespace, the ancestors up to the channel's nearest value are *retired*: they disappear from `load`, `list`
        and the inbox, but keep their writes to that channel. Writes of checkpoints that have not arrived yet stay, also
        when nothing else of the thread does.
        """

    @abstractmethod
    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        """Return one page of threads by `ThreadRecord.position`; ``query.terms`` must be on their ``latest``."""

    @abstractmethod
    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        """Return one page of the writes that raise pending interrupts, by `InterruptRecord.position`.

        They are the writes with ``questions`` on the latest checkpoint of each thread's root namespace whose task has
        no write that ``settles`` it. ``query.terms`` must be on that checkpoint.
        """
