"""The interface that a storage adapter implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

from checkpoint_base.keys import CheckpointKey, NamespaceKey
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
from checkpoint_base.transport import Operation, Transport

THREADS_AT_ONCE = 64
"""The most threads that one request removes from. Their writers may have to wait until it is done with all of them."""

MAX_KEPT = 2**31 - 1
"""The most checkpoints of a namespace that pruning can be told to keep; databases have integers of this size."""


class CheckpointStore(ABC):
    """Keeps records and bytes; what they mean to LangGraph is the saver's business.

    Each method is an operation: a generator that yields requests for `transport` and returns the result (see
    `checkpoint_base.transport`). Every operation

    - is atomic, even if it is killed in the middle: others see all of it or nothing. An operation on several threads is
      atomic for each of them;
    - is durable when it returns;
    - is idempotent: repeating it with the same arguments changes nothing more, whatever came of the first attempt;
    - treats what is missing as empty, but raises `StoreUnavailable` for what cannot be reached;
    - raises `CorruptCheckpoint` when something that it stored is gone or unreadable. If the operation is on one thread,
      the saver names it; otherwise the store does, and says to restore it from a backup, or to delete it.

    Ids arrive checked (`checkpoint_base.keys`); they compare as text by code point, and the greatest checkpoint id of
    a namespace is its latest, whichever was put last. Only `ancestry` finds a checkpoint that was *retired* (see
    `prune`).
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
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        """Store a checkpoint with its new values, replacing one of the same key, even a retired one.

        The checkpoint relies on data that is already stored, and that somebody may have removed meanwhile:

        - chunks that ``values`` or nodes among ``chunks`` refer to, and that are not themselves among ``chunks``;
        - the values of the ``unchanged`` (channel, version) pairs;
        - if it has ``open_channels``, its parent: visible, or retired with its writes to all of those channels.

        Returns what of this is missing. If anything is, nothing was stored.

        Writes of the checkpoint, which may have arrived before it, stay as they are.
        """

    @abstractmethod
    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        """Store pending writes of a checkpoint, which need not exist yet.

        There is at least one write, and no ``(task_id, idx)`` occurs twice.

        A stored write with the same ``(task_id, idx)`` stays when ``idx >= 0`` and is replaced when ``idx < 0``.
        ``chunks`` and the result are as in `put`.
        """

    @abstractmethod
    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        """Return one checkpoint with its values and writes, or the latest of the namespace when no id is given."""

    @abstractmethod
    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        """Return one page of checkpoints: ``query.limit`` of them, unless it is the last page.

        The limit is 100 at most, or 1,600 without ``query.contents``. A damaged checkpoint is on its page with a record
        that cannot be read, or the whole page raises `CorruptCheckpoint`.
        """

    @abstractmethod
    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        """Follow the parents of a checkpoint (or of the latest) and collect what they contributed to ``channels``.

        The first ancestor is the parent. A channel is open until an ancestor has a stored value for it; that ancestor's
        own writes to it still count. Retired ancestors count like others. Parents may be missing, or form a ring. A
        checkpoint that does not exist has no ancestors. The number of requests grows far more slowly than that of the
        ancestors.
        """

    @abstractmethod
    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        """Remove everything of these threads, which are `THREADS_AT_ONCE` at most."""

    @abstractmethod
    def delete_runs(self, run_ids: Sequence[str], thread_id: str | None = None) -> Operation[None]:
        """Remove the checkpoints of these runs with their writes, in every thread, as `prune` removes checkpoints.

        A thread whose first checkpoint of such a run arrives meanwhile may keep it. A caller who knows that only one
        thread has checkpoints of these runs gives its ``thread_id``, so that the store need not look for threads: what
        this costs must not grow with the number of the others.
        """

    @abstractmethod
    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        """Copy everything of a thread under another id. Copying a missing source changes nothing.

        A target that exists keeps its writes. Returns False and changes nothing if the target has a visible checkpoint
        that the source does not have.
        """

    @abstractmethod
    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        """Keep only the latest checkpoints of every namespace of these threads, and exactly what they refer to.

        There are `THREADS_AT_ONCE` threads at most, and a damaged one keeps no other from being pruned. ``keep``, from
        1 to `MAX_KEPT`, is how many of each namespace stay. A namespace whose visible checkpoints have a ``caller_id``
        goes as a whole if the one that its newest has is a checkpoint of the thread that goes;
        `checkpoint_base.retention` has this rule for stores in Python.

        A kept checkpoint may have a channel without a stored value, which was among ``open_channels`` somewhere in its
        namespace. Then its ancestors, up to the nearest one with a value, are *retired*: they disappear from `load`,
        `list` and the inbox, but keep their writes to that channel. Writes of checkpoints that have not arrived yet
        always stay.
        """

    @abstractmethod
    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        """Return one page of threads by `ThreadRecord.position`; ``query.terms`` must be on their ``latest``.

        ``query.limit`` is 1,600 at most, and only the last page is shorter. What is damaged ends no page:
        `checkpoint_base.records.unreadable` stands for it, whatever the terms. Only if all is gone of the one thread
        that is asked for, and the store knows that nobody removed it, it raises `CorruptCheckpoint`, as for `load`.
        """

    @abstractmethod
    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        """Return one page of the writes that raise pending interrupts, by `InterruptRecord.position`.

        It may return several pages at once, all but the last of ``query.limit`` writes.

        These writes are on the latest checkpoint of a thread's root namespace and have ``questions``, and no write of
        the same task ``settles`` it. ``query.terms`` must be on that checkpoint. What is damaged ends no page, as in
        `threads`.
        """
