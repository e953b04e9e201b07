"""The saver that LangGraph talks to, in both colours. What its methods mean is in `checkpoint_base.operations`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from math import isfinite
from random import SystemRandom
from types import TracebackType
from typing import Any, NoReturn, Self, TypedDict, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from checkpoint_base.cache import Memory
from checkpoint_base.codec import Codec, Compression
from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.listings import CheckpointInfo, PendingInterrupt, ThreadInfo
from checkpoint_base.operations import Operations
from checkpoint_base.paging import Listing
from checkpoint_base.per_process import PerProcess
from checkpoint_base.records import Order
from checkpoint_base.serializer import ExactSerializer
from checkpoint_base.store import CheckpointStore
from checkpoint_base.times import now
from checkpoint_base.tracing import span
from checkpoint_base.transport import Operation, Retrying, Transport, arun, run
from checkpoint_base.values import Values

T = TypeVar("T")

# Not the module's generator: a node that seeds that one would give two branches the same versions.
_RANDOM = SystemRandom()


class SaverOptions(TypedDict, total=False):
    """The options of `CheckpointSaver`, which every adapter's saver takes, too."""

    serde: SerializerProtocol | None
    strict: bool
    compression: Compression
    deadline: float


class CheckpointSaver(BaseCheckpointSaver[str]):
    """A LangGraph checkpointer on any `CheckpointStore`, for sync and async callers alike.

    One saver may be used from any number of threads and event loops at once. It is a context manager for ``with`` and
    ``async with``: entering sets the store up, leaving closes what the saver opened. Otherwise, the first call sets the
    store up.

    Errors of every method: `InvalidKey` for ids that cannot be used, `SerializationError` for values that cannot be
    stored or rebuilt exactly, `CorruptCheckpoint` for damaged data, `StoreUnavailable` when the store does not answer
    within ``deadline`` seconds, `ConflictError` when others change a thread too quickly for it to be read,
    `SchemaMismatch` when the store holds something else or was written by a later version, and `UnsupportedOperation`
    for an argument that no saver takes, a closed saver, or a store that refuses access. A call that raised one of the
    first two changed nothing.

    Args:
        store: where checkpoints are kept.
        serde: LangGraph serializer to use instead of `ExactSerializer`; it may change values where that would not.
        strict: rebuild only the classes that LangGraph lists as safe; others come back as plain data.
        compression: ``"zstd"`` to store less and take longer; see `Codec`.
        deadline: seconds during which a request is repeated while the store is unavailable. An attempt that has begun
            is not cut short.

    Attributes:
        store: as it was given.
        deadline: as it was given.
        transport: carries out the store's requests and repeats them. Another one, to watch or disturb them in a test,
            may be set in its place.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        serde: SerializerProtocol | None = None,
        strict: bool = False,
        compression: Compression = None,
        deadline: float = 30.0,
    ) -> None:
        if type(strict) is not bool:
            raise UnsupportedOperation(f"strict={strict!r}: give True or False")
        if serde is not None and strict:
            raise UnsupportedOperation("strict= configures the default serializer; make your own serde strict instead")
        if not (isinstance(deadline, int | float) and isfinite(deadline) and deadline >= 0):
            raise UnsupportedOperation(f"deadline={deadline!r}: give a number of seconds, 0 for a single attempt")
        if compression not in (None, "zstd"):
            raise UnsupportedOperation(f"compression={compression!r}: give 'zstd' or None")
        super().__init__(serde=serde or ExactSerializer(strict=strict))
        self.store = store
        self.deadline = deadline
        self._codec = Codec(compression=compression)
        self.transport: Transport = Retrying(store.transport, deadline)
        self._memory = PerProcess(Memory)
        self._setup = _Setup()

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __reduce__(self) -> NoReturn:
        raise UnsupportedOperation(
            "a saver cannot be pickled or copied deeply, because it has connections: "
            "pass on the URL of the store, and open a saver on it there"
        )

    # Opening and closing

    def setup(self) -> None:
        """Create what the store needs; safe to repeat, and to call from many processes at once."""
        with span("setup", self.store):
            run(self._set_up(), self.transport)

    async def asetup(self) -> None:
        """`setup`, asynchronously."""
        with span("setup", self.store):
            await arun(self._set_up(), self.transport)

    def close(self) -> None:
        """Release what this saver opened. Clones share it; a pool or client that was passed in stays open."""
        self.transport.close()

    async def aclose(self) -> None:
        """`close`, asynchronously."""
        await self.transport.aclose()

    def __enter__(self) -> Self:
        try:
            CheckpointSaver.setup(self)  # that of a subclass may have to be awaited
        except BaseException:
            self.close()  # `with` does not call `__exit__` when `__enter__` raises
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        try:
            await self.asetup()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # LangGraph's interface: each pair of methods runs one operation

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that ``config`` names, or the latest of its namespace; None when there is none.

        The latest is the one with the greatest id, whichever was put last. ``pending_writes`` are in LangGraph's
        `writes_sort_key` order.
        """
        return self._run("get_tuple", self.operations.get_tuple(config))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple`, asynchronously."""
        return await self._arun("get_tuple", self.operations.get_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, newest id first, page by page: nothing is held open while the caller works on one.

        Args:
            config: the thread to list, with ``checkpoint_ns`` only that namespace, with ``checkpoint_id`` only that
                checkpoint; None lists every thread.
            filter: metadata entries that must all be equal.
            before: list ids smaller than this config's ``checkpoint_id`` only.
            limit: the most to yield.

        Raises:
            CorruptCheckpoint: as in `history`.
        """
        return self._listed("list", self.operations.list(config, filter, before, limit))

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """`list`, asynchronously."""
        return self._alisted("list", self.operations.list(config, filter, before, limit))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint; ``config`` names its thread, its namespace and, as ``checkpoint_id``, its parent.

        Only the values of channels in ``new_versions`` are stored; others are found by their version when read.
        Repeating a put changes nothing. Writes of the checkpoint may be there already and stay.

        Returns:
            The config of the stored checkpoint.

        Raises:
            ConflictError: the thread is being removed at the same time; or what a delta channel would be rebuilt from
                has been removed since the parent was read. Nothing was stored.
        """
        return self._run("put", self.operations.put(config, checkpoint, metadata, new_versions))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`put`, asynchronously."""
        return await self._arun("put", self.operations.put(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store a task's writes on the checkpoint that ``config`` names, which need not have been put yet.

        An ordinary write is identified by its position and never replaced; a special one (error, interrupt, resume)
        by its channel and always replaced.

        Raises:
            ConflictError: the thread is being removed at the same time. Nothing was stored.
        """
        self._run("put_writes", self.operations.put_writes(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`put_writes`, asynchronously."""
        await self._arun("put_writes", self.operations.put_writes(config, writes, task_id, task_path))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what a checkpoint's ancestors contributed to each channel, oldest write first.

        The number of round trips grows far more slowly than that of the ancestors, and on most stores not at all.
        """
        return self._run("get_delta_channel_history", self.operations.delta_history(config, channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`get_delta_channel_history`, asynchronously."""
        return await self._arun("get_delta_channel_history", self.operations.delta_history(config, channels))

    def delete_thread(self, thread_id: str) -> None:
        """Remove everything of a thread. A missing thread is ignored."""
        self._run("delete_thread", self.operations.delete_thread(thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread`, asynchronously."""
        await self._arun("delete_thread", self.operations.delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata has one of these ``run_id``, with their writes, in every thread.

        What the remaining checkpoints need to rebuild a delta channel stays, out of sight. What a run wrote to another
        run's checkpoint stays, too: the answer with which it resumed a thread, say.
        """
        self._run("delete_for_runs", self.operations.delete_for_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`delete_for_runs`, asynchronously."""
        await self._arun("delete_for_runs", self.operations.delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history under another id. Copying a missing source changes nothing.

        Raises:
            ConflictError: the target has checkpoints that the source does not have. Repeating a copy is no conflict.
        """
        self._run("copy_thread", self.operations.copy_thread(source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread`, asynchronously."""
        await self._arun("copy_thread", self.operations.copy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep: int = 1) -> None:
        """Remove old checkpoints of these threads. Each thread is pruned atomically; a request prunes up to 64 threads.

        Args:
            thread_ids: missing threads are ignored.
            strategy: ``"keep_latest"`` keeps the latest checkpoints of every namespace with their writes and everything
                they need, delta channels included; what a call of a subgraph stored stays for as long as the
                checkpoint at which the call began, unless the subgraph remembers (``checkpointer=True``).
                ``"delete"`` removes the threads.
            keep: how many of the latest checkpoints of every namespace to keep, an extension of this project. More than
                one leaves something to go back to.

        Raises:
            UnsupportedOperation: there is no such strategy, or ``keep`` is out of range.
        """
        self._run("prune", self.operations.prune(thread_ids, strategy, keep))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest", keep: int = 1) -> None:
        """`prune`, asynchronously."""
        await self._arun("prune", self.operations.prune(thread_ids, strategy, keep))

    def get_next_version(self, current: str | float | None, channel: None = None) -> str:  # noqa: ARG002  # deprecated
        """Return a version that follows ``current`` and differs from every other one, even on a fork's branches.

        The form is that of LangGraph's savers, so that a thread may move between them and these.
        """
        count = int(current.split(".")[0]) if isinstance(current, str) else int(current or 0)
        return f"{count + 1:032}.{_RANDOM.getrandbits(52):016}"

    # Beyond LangGraph's interface: listings that load no state

    def interrupts(
        self,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order: Order = "newest",
        limit: int | None = None,
        after: str | None = None,
    ) -> Iterator[PendingInterrupt]:
        """Yield every pending interrupt of every thread by the time it was asked, through an index, page by page.

        With the oldest first, what is asked during the listing comes at its end. So a slow caller should stop at the
        time at which it began: otherwise the listing lasts for as long as questions are asked.

        Static breakpoints (``interrupt_before``, ``interrupt_after``) ask nothing and are not listed.

        Args:
            thread_id: only this thread's.
            metadata: entries that must all be equal in the metadata of the checkpoint that waits.
            order: ``"newest"`` or ``"oldest"`` first.
            limit: the most to yield.
            after: the ``cursor`` of the interrupt behind which to continue.
        """
        return self._listed("interrupts", self.operations.interrupts(thread_id, metadata, order, limit, after))

    def ainterrupts(
        self,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order: Order = "newest",
        limit: int | None = None,
        after: str | None = None,
    ) -> AsyncIterator[PendingInterrupt]:
        """`interrupts`, asynchronously."""
        return self._alisted("interrupts", self.operations.interrupts(thread_id, metadata, order, limit, after))

    def threads(
        self,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order: Order = "newest",
        limit: int | None = None,
        after: str | None = None,
    ) -> Iterator[ThreadInfo]:
        """Yield every thread by the time of its last change, through an index, page by page.

        The arguments are those of `interrupts`; ``metadata`` is compared with the thread's latest checkpoint. A thread
        that changes meanwhile may be missed, or be yielded again: with the oldest first, each time it has changed.
        What is yielded is as old as its page, which may have 1,600 threads: ask for a thread by its id before you act
        on it.
        """
        return self._listed("threads", self.operations.threads(thread_id, metadata, order, limit, after))

    def athreads(
        self,
        *,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        order: Order = "newest",
        limit: int | None = None,
        after: str | None = None,
    ) -> AsyncIterator[ThreadInfo]:
        """`threads`, asynchronously."""
        return self._alisted("threads", self.operations.threads(thread_id, metadata, order, limit, after))

    def history(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointInfo]:
        """Yield what `list` yields, without reading any value or write.

        Raises:
            CorruptCheckpoint: a checkpoint is damaged. `threads` and `interrupts` list its thread with an error.
        """
        return self._listed("history", self.operations.history(config, filter, before, limit))

    def ahistory(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointInfo]:
        """`history`, asynchronously."""
        return self._alisted("history", self.operations.history(config, filter, before, limit))

    # Running operations

    @property
    def operations(self) -> Operations:
        """What the methods above run: LangGraph's meaning on this saver's store, without I/O."""
        # Made anew each time, because a clone has another serde (BaseCheckpointSaver.with_allowlist).
        return Operations(self.store, Values(self.serde, self._codec), self._memory.get(), now)

    def _run(self, name: str, operation: Operation[T]) -> T:
        with span(name, self.store):
            return run(self._set_up_first(operation), self.transport)

    async def _arun(self, name: str, operation: Operation[T]) -> T:
        with span(name, self.store):
            return await arun(self._set_up_first(operation), self.transport)

    def _set_up_first(self, operation: Operation[T]) -> Operation[T]:
        if not self._setup.done:
            yield from self._set_up()
        return (yield from operation)

    def _set_up(self) -> Operation[None]:
        yield from self.store.setup()
        self._setup.done = True

    def _listed(self, name: str, listing: Listing[T]) -> Iterator[T]:
        while listing.goes_on:
            yield from self._run(name, listing.next_page())

    async def _alisted(self, name: str, listing: Listing[T]) -> AsyncIterator[T]:
        while listing.goes_on:
            for item in await self._arun(name, listing.next_page()):
                yield item


class _Setup:
    """Whether the store has been set up; a saver shares it with its clones."""

    done = False
