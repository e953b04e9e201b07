"""What checkpoints, writes, interrupts and metadata mean to LangGraph, as operations over any store.

No method here does I/O or knows whether its caller is sync or async: operations yield a store's requests, readers turn
records into what LangGraph expects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import ERROR

from checkpoint_base.cache import Memory
from checkpoint_base.codec import Encoding
from checkpoint_base.errors import (
    UNREADABLE,
    ConflictError,
    UnsupportedOperation,
    damage,
    damage_of,
)
from checkpoint_base.keys import (
    CheckpointKey,
    caller_of,
    checkpoint_id_of,
    checkpoint_key,
    checkpoint_of,
    config_of,
    escape,
    namespace_of,
    run_key,
    several,
    shown,
    task_key,
    text_key,
    thread_key,
    unescape,
    version_key,
    version_of,
)
from checkpoint_base.listings import (
    CheckpointInfo,
    Cursor,
    PendingInterrupt,
    ThreadInfo,
)
from checkpoint_base.metadata import matches, merged_metadata, terms_of
from checkpoint_base.paging import LONG_PAGE, PAGE, Item, Listing
from checkpoint_base.questions import asked, number_of_questions, questions_in, settles
from checkpoint_base.records import (
    ChannelValue,
    ChannelVersion,
    CheckpointRecord,
    Chunk,
    ChunkId,
    InboxQuery,
    InterruptRecord,
    ListQuery,
    Order,
    StoredCheckpoint,
    ThreadRecord,
    ValueRecord,
    WriteRecord,
)
from checkpoint_base.store import MAX_KEPT, THREADS_AT_ONCE, CheckpointStore
from checkpoint_base.times import damage_of_times, instant, time_in
from checkpoint_base.transport import Operation, about, batches, for_each
from checkpoint_base.values import Values

_LOG = logging.getLogger(__name__)

_NO_VALUE = ValueRecord(b"")

_Joined: TypeAlias = dict[str, tuple[tuple[str, ValueRecord], tuple[str, bytes]]]
"""By channel, a value's thread and record, and the serializer's tag and bytes that they were joined to."""

_DELTA_COUNTERS = "counters_since_delta_snapshot"


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of one saver: its store, how it writes values, and what it remembers.

    ``clock`` is the time at which what it puts was written, in microseconds since 1970.
    """

    store: CheckpointStore
    values: Values
    memory: Memory
    clock: Callable[[], int]

    # Writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Operation[RunnableConfig]:
        space = namespace_of(config)
        for name, given in (("checkpoint", checkpoint), ("metadata", metadata), ("new_versions", new_versions)):
            _require_mapping(name, given)
        key = CheckpointKey(space.thread_id, space.checkpoint_ns, checkpoint_key(checkpoint.get("id")))
        record = self._record(key, config, checkpoint, metadata)
        if record.parent_id and record.parent_id > key.checkpoint_id:
            _LOG.warning(
                "%s follows %s, but has a smaller id, so it is not the latest: this machine's clock may be behind",
                key.place,
                shown(record.parent_id),
            )
        values = checkpoint["channel_values"]
        pairs = dict(zip(checkpoint["channel_versions"], record.channels, strict=True))
        encodings = {
            channel: self._encode_channel(key, channel, values[channel])
            for channel in new_versions
            if channel in values
        }
        new_values = [
            ChannelValue(escape(channel), version_key(new_versions[channel]), encoding.record)
            for channel, encoding in encodings.items()
        ]
        unchanged = {pairs[channel] for channel in values if channel in pairs and channel not in new_versions}
        chunks = _all_chunks(encodings.values())
        unseen = self.memory.seen.unseen(key.thread_id, chunks)
        missing = yield from about(key.thread_id, self.store.put(record, new_values, unseen, unchanged))
        if missing.parent:
            raise ConflictError(
                f"{shown(record.parent_id or '')}, the parent of {key.place}, has been removed since, and with it the "
                f"writes that {', '.join(record.open_channels)} would be rebuilt from: start again from the latest "
                "checkpoint"
            )
        if missing:
            # Somebody pruned or deleted the thread while this run went on. The run still has every value.
            for channel in values:
                if pairs.get(channel) in missing.versions:
                    encodings[channel] = self._encode_channel(key, channel, values[channel])
                    new_values.append(ChannelValue(*pairs[channel], encodings[channel].record))
            chunks = _all_chunks(encodings.values())
            unchanged -= missing.versions
            missing = yield from about(key.thread_id, self.store.put(record, new_values, chunks, unchanged))
        if missing:
            raise ConflictError(
                f"{key.place} could not be stored: its thread is being removed at the same time; call again "
                "if it should exist"
            )
        self.memory.seen.add(key.thread_id, chunks)
        for channel, encoding in encodings.items():
            self.memory.encodings.remember(key.thread_id, key.checkpoint_ns, channel, encoding)
        return config_of(key)

    def _encode_channel(self, key: CheckpointKey, channel: str, value: Any) -> Encoding:
        previous = self.memory.encodings.get(key.thread_id, key.checkpoint_ns, channel)
        return self.values.encode(value, f"channel {channel!r} of {key.place}", previous=previous)

    def _record(
        self, key: CheckpointKey, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> CheckpointRecord:
        everything = merged_metadata(config, metadata)
        header = {name: part for name, part in checkpoint.items() if name not in ("channel_values", "channel_versions")}
        parent_id = checkpoint_id_of(config)
        channels = tuple(
            (escape(channel), version_key(version)) for channel, version in checkpoint["channel_versions"].items()
        )
        open_channels = tuple(map(escape, rebuilt_channels(checkpoint, everything)))
        caller_id = caller_of(key.checkpoint_ns, everything)
        associated = _associated_with(key, parent_id, channels, open_channels, caller_id)
        return CheckpointRecord(
            key=key,
            parent_id=parent_id,
            header=self.values.encode_whole([header, everything], f"checkpoint {key.place}", associated=associated),
            channels=channels,
            open_channels=open_channels,
            terms=b"".join(self._terms(everything)),
            run_id=_run_id(everything),
            caller_id=caller_id,
            written_at=self.clock(),
        )

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Operation[None]:
        key = checkpoint_of(config)
        task_id = task_key(task_id)
        task_path = text_key("task_path", task_path)
        now = self.clock()
        encodings = []
        records: dict[int, WriteRecord] = {}
        for position, (channel, value) in enumerate(writes):
            value = kept_write(channel, value)
            write = WriteRecord(
                task_id=task_id,
                idx=WRITES_IDX_MAP.get(channel, position),
                channel=escape(channel),
                task_path=task_path,
                value=_NO_VALUE,
                questions=number_of_questions(task_id, task_path, channel, value),
                settles=settles(task_id, channel),
                written_at=now,
            )
            what = f"write {position} to {channel!r} of task {shown(task_id)} on {key.place}"
            encoding = self.values.encode(value, what, associated=_associated_with_write(write))
            encodings.append(encoding)
            records[write.idx] = replace(write, value=encoding.record)
        if not records:
            return
        chunks = _all_chunks(encodings)
        seen = self.memory.seen
        stored = tuple(records.values())
        unseen = seen.unseen(key.thread_id, chunks)
        missing = yield from about(key.thread_id, self.store.put_writes(key, stored, unseen))
        if missing:
            missing = yield from about(key.thread_id, self.store.put_writes(key, stored, chunks))
        if missing:
            raise ConflictError(
                f"writes on {key.place} could not be stored: their thread is being removed at the same time; call "
                "again if it should exist"
            )
        seen.add(key.thread_id, chunks)

    def delete_thread(self, thread_id: str) -> Operation[None]:
        yield from self.store.delete_threads([thread_key(thread_id)])

    def delete_for_runs(self, run_ids: Sequence[str]) -> Operation[None]:
        if keys := [run_key(run_id) for run_id in several("run_ids", run_ids)]:
            yield from self.store.delete_runs(keys)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> Operation[None]:
        source, target = thread_key(source_thread_id), thread_key(target_thread_id)
        if source == target:
            return
        if not (yield from about(source, self.store.copy_thread(source, target))):
            raise ConflictError(
                f"thread {target!r} has checkpoints that thread {source!r} does not have: "
                "copy to another id, or delete the target first"
            )

    def prune(self, thread_ids: Sequence[str], strategy: str, keep: int) -> Operation[None]:
        keys = [thread_key(thread_id) for thread_id in several("thread_ids", thread_ids)]
        if strategy not in ("keep_latest", "delete"):
            raise UnsupportedOperation(f"unknown strategy {strategy!r}: use 'keep_latest' or 'delete'")
        if type(keep) is not int or not 1 <= keep <= MAX_KEPT:
            raise UnsupportedOperation(
                f"keep={keep!r}: pass how many checkpoints of each namespace to keep, from 1 to {MAX_KEPT}"
            )
        if strategy == "delete" and keep != 1:
            raise UnsupportedOperation(
                f"keep={keep} with the strategy 'delete', which keeps nothing: pass one of the two"
            )
        some_at_once = batches(keys, THREADS_AT_ONCE)
        if strategy == "delete":
            yield from for_each(some_at_once, self.store.delete_threads)
        else:
            yield from for_each(some_at_once, lambda some: self.store.prune(some, keep))

    # Reading

    def get_tuple(self, config: RunnableConfig) -> Operation[CheckpointTuple | None]:
        space = namespace_of(config)
        stored = yield from about(space.thread_id, self.store.load(space, checkpoint_id_of(config)))
        if stored is None:
            return None
        self.memory.seen.add(stored.record.key.thread_id, stored.chunks)
        with damage_of(space.thread_id):
            return self._tuple(stored, *self._header(stored.record), {})

    def delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Operation[Mapping[str, DeltaChannelHistory]]:
        space = namespace_of(config)
        names = {escape(channel): channel for channel in several("channels", channels)}
        if not names:
            return {}
        ancestry = self.store.ancestry(space, checkpoint_id_of(config), tuple(names))
        found = yield from about(space.thread_id, ancestry)
        where = f"the ancestors in thread {space.thread_id!r}"
        histories: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in names.values()}
        for generation in reversed(found.writes):
            for write in sorted(generation, key=_write_order):
                histories[names[write.channel]]["writes"].append(self._pending_write(write, found.chunks, where))
        for name, seed in found.seeds.items():
            channel = names[name]
            histories[channel]["seed"] = self.values.decode(seed, found.chunks, f"channel {channel!r} of {where}")
        return histories

    def list(
        self,
        config: RunnableConfig | None,
        filter_: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing[CheckpointTuple]:
        joined: _Joined = {}  # a value that is that of the checkpoint before is not joined again

        def read(stored: StoredCheckpoint, header: dict[str, Any], metadata: dict[str, Any]) -> CheckpointTuple:
            return self._tuple(stored, header, metadata, joined)

        return self._checkpoints(config, filter_, before, limit, read, contents=True)

    def history(
        self,
        config: RunnableConfig | None,
        filter_: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Listing[CheckpointInfo]:
        return self._checkpoints(config, filter_, before, limit, _checkpoint_info, contents=False)

    def threads(
        self,
        thread_id: str | None,
        metadata: Mapping[str, Any] | None,
        order: Order,
        limit: int | None,
        after: str | None,
    ) -> Listing[ThreadInfo]:
        wanted = _entries("metadata", metadata)
        listing = f"threads, {order} first"

        def read(found: ThreadRecord) -> Iterator[ThreadInfo]:
            latest, error = self._listed_metadata(found.latest)
            error = error or damage_of_times(found.created_at, found.updated_at)
            if error or matches(latest, wanted):
                yield ThreadInfo(
                    thread_id=found.thread_id,
                    created_at=instant(found.created_at),
                    updated_at=instant(found.updated_at),
                    step=latest.get("step"),
                    pending_interrupts=found.questions,
                    metadata=latest,
                    cursor=Cursor(found.position).text(listing),
                    error=error,
                )

        query = self._inbox_query(thread_id, wanted, order, Cursor.parse(after, listing))
        is_exact = self._is_exact(wanted)
        return Listing(self.store.threads, query, read, limit=limit, is_exact=is_exact, most=LONG_PAGE)

    def interrupts(
        self,
        thread_id: str | None,
        metadata: Mapping[str, Any] | None,
        order: Order,
        limit: int | None,
        after: str | None,
    ) -> Listing[PendingInterrupt]:
        # A store continues behind a record, which may hold several questions. To continue between two of them, a cursor
        # names the record before theirs, and how many questions to skip.
        wanted = _entries("metadata", metadata)
        listing = f"interrupts, {order} first"
        cursor = Cursor.parse(after, listing)
        query = self._inbox_query(thread_id, wanted, order, cursor)
        behind_cursor = replace(query, after=cursor.within)
        previous = cursor.after

        def read(found: InterruptRecord) -> Iterator[PendingInterrupt]:
            nonlocal previous
            if found.position != cursor.within and not behind_cursor.is_behind(found.position):
                return  # asked since the cursor was made, and before the record in which it is
            key = found.checkpoint.key
            skip = cursor.skip if found.position == cursor.within else 0
            before, previous = previous, found.position
            waiting, error = self._listed_metadata(found.checkpoint)
            error = error or damage_of_times(found.write.written_at)
            if not (error or matches(waiting, wanted)):
                return
            where = f"the interrupt of task {shown(found.write.task_id)} on {key.place}"
            associated = _associated_with_write(found.write)
            asking: list[tuple[str | None, Any, Any]]
            try:
                written = self.values.decode(found.write.value, found.chunks, where, associated=associated)
                asking = [asked(question, where) for question in questions_in(written)]
            except UNREADABLE as unreadable:
                asking, error = [(None, None, None)], str(unreadable)
            for number, (interrupt_id, value, schema) in enumerate(asking[skip:], skip + 1):
                behind = Cursor(found.position) if number == len(asking) else Cursor(before, found.position, number)
                yield PendingInterrupt(
                    thread_id=key.thread_id,
                    checkpoint_ns=key.checkpoint_ns,
                    checkpoint_id=key.checkpoint_id,
                    task_id=found.write.task_id,
                    interrupt_id=interrupt_id,
                    value=value,
                    response_schema=schema,
                    created_at=instant(found.write.written_at),
                    metadata=waiting,
                    cursor=behind.text(listing),
                    error=error,
                )

        return Listing(self.store.interrupts, query, read, limit=limit, is_exact=self._is_exact(wanted))

    def _tuple(
        self, stored: StoredCheckpoint, header: dict[str, Any], metadata: dict[str, Any], joined: _Joined
    ) -> CheckpointTuple:
        record = stored.record
        where = record.key.place
        values = {}
        for channel, _ in record.channels:
            if channel in stored.values:
                name = unescape(channel)
                what = f"channel {name!r} of {where}"
                source = (record.key.thread_id, stored.values[channel])
                if channel not in joined or joined[channel][0] != source:
                    joined[channel] = source, self.values.join(stored.values[channel], stored.chunks, what)
                values[name] = self.values.rebuild(joined[channel][1], what)
        checkpoint = {
            **header,
            "channel_values": values,
            "channel_versions": {unescape(channel): version_of(version) for channel, version in record.channels},
        }
        return CheckpointTuple(
            config=config_of(record.key),
            checkpoint=cast(Checkpoint, checkpoint),
            metadata=cast(CheckpointMetadata, metadata),
            parent_config=config_of(replace(record.key, checkpoint_id=record.parent_id)) if record.parent_id else None,
            pending_writes=[
                self._pending_write(write, stored.chunks, where) for write in sorted(stored.writes, key=_write_order)
            ],
        )

    def _pending_write(self, write: WriteRecord, chunks: Mapping[ChunkId, Chunk], where: str) -> PendingWrite:
        channel = unescape(write.channel)
        value = self.values.decode(
            write.value,
            chunks,
            f"write {write.idx} to {channel!r} of task {shown(write.task_id)} on {where}",
            associated=_associated_with_write(write),
        )
        return (write.task_id, channel, value)

    def _header(self, record: CheckpointRecord) -> tuple[dict[str, Any], dict[str, Any]]:
        what = f"checkpoint {record.key.place}"
        associated = _associated_with(
            record.key, record.parent_id, record.channels, record.open_channels, record.caller_id
        )
        match self.values.decode(ValueRecord(record.header), {}, what, associated=associated):
            case [dict() as header, dict() as metadata]:
                return header, metadata
        raise damage(f"{what} holds something else")

    def _listed_metadata(self, record: CheckpointRecord | None) -> tuple[dict[str, Any], str | None]:
        """A checkpoint's metadata, or why it cannot be read, for listings that one damaged thread must not end."""
        if record is None:
            return {}, None
        try:
            return self._header(record)[1], None
        except UNREADABLE as unreadable:
            return {}, str(unreadable)

    # Queries

    def _terms(self, metadata: Mapping[str, Any]) -> tuple[bytes, ...]:
        """Digests to filter by; none if the metadata is encrypted, because even a digest would reveal too much."""
        # Not isinstance: of a protocol's subclass that takes 5 microseconds.
        return () if EncryptedSerializer in type(self.values.serde).__mro__ else terms_of(metadata)

    def _checkpoints(
        self,
        config: RunnableConfig | None,
        filter_: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
        read: Callable[[StoredCheckpoint, dict[str, Any], dict[str, Any]], Item],
        *,
        contents: bool,
    ) -> Listing[Item]:
        """A listing of checkpoints, each read from its record, header and metadata."""
        space = namespace_of(config) if config is not None else None
        wanted = _entries("filter", filter_)
        every_namespace = config is None or config["configurable"].get("checkpoint_ns") is None
        query = ListQuery(
            thread_id=space.thread_id if space else None,
            checkpoint_ns=None if space is None or every_namespace else space.checkpoint_ns,
            checkpoint_id=checkpoint_id_of(config),
            before=checkpoint_id_of(before, "before"),
            terms=self._terms(wanted),
            contents=contents,
        )

        def read_matching(stored: StoredCheckpoint) -> Iterator[Item]:
            with damage_of(stored.record.key.thread_id):
                header, metadata = self._header(stored.record)
                found = [read(stored, header, metadata)] if matches(metadata, wanted) else ()
            yield from found

        is_exact, most = self._is_exact(wanted), PAGE if contents else LONG_PAGE
        return Listing(self.store.list, query, read_matching, limit=limit, is_exact=is_exact, most=most)

    def _inbox_query(
        self, thread_id: str | None, wanted: Mapping[str, Any], order: Order, cursor: Cursor
    ) -> InboxQuery:
        if order not in ("newest", "oldest"):
            raise UnsupportedOperation(f"unknown order {order!r}: use 'newest' or 'oldest'")
        return InboxQuery(
            thread_id=None if thread_id is None else thread_key(thread_id),
            terms=self._terms(wanted),
            order=order,
            after=cursor.after,
        )

    def _is_exact(self, wanted: Mapping[str, Any]) -> bool:
        """Whether the store itself can apply the whole filter, which it cannot if the metadata is encrypted, say."""
        return len(self._terms(wanted)) == len(wanted)


def _entries(name: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The entries that metadata must have; none if none are asked for."""
    if given is not None:
        _require_mapping(name, given)
    return given or {}


def _require_mapping(name: str, given: object) -> None:
    if not isinstance(given, Mapping):
        raise UnsupportedOperation(f"{name} must be a mapping, not {type(given).__name__}")


def _all_chunks(encodings: Iterable[Encoding]) -> dict[ChunkId, Chunk]:
    return {id_: chunk for encoding in encodings for id_, chunk in encoding.chunks.items()}


def _checkpoint_info(
    stored: StoredCheckpoint, header: Mapping[str, Any], metadata: Mapping[str, Any]
) -> CheckpointInfo:
    key = stored.record.key
    return CheckpointInfo(
        thread_id=key.thread_id,
        checkpoint_ns=key.checkpoint_ns,
        checkpoint_id=key.checkpoint_id,
        parent_id=stored.record.parent_id,
        created_at=time_in(header.get("ts")),
        metadata=metadata,
    )


def _associated_with(
    key: CheckpointKey,
    parent_id: str | None,
    channels: Iterable[ChannelVersion],
    open_channels: Iterable[str],
    caller_id: str | None,
) -> bytes:
    """What a checkpoint's record holds outside its header, which the header's checksum covers, too."""
    pairs = (part for pair in channels for part in pair)
    ids = (key.checkpoint_ns, key.checkpoint_id, parent_id or "", caller_id or "")
    return "\0".join((*ids, *pairs, *open_channels)).encode()


def _associated_with_write(write: WriteRecord) -> bytes:
    """What a write's record holds outside its value, which the value's checksum covers, too."""
    parts = (write.task_id, str(write.idx), write.channel, write.task_path, str(write.questions), str(write.settles))
    return "\0".join(parts).encode()


def _write_order(write: WriteRecord) -> tuple[str, str, int]:
    return writes_sort_key(write.task_path, write.task_id, write.idx)


def kept_write(channel: str, value: Any) -> Any:
    """What is stored of a write: of an exception that ended a task only its text, as LangGraph's serializer does.

    No serializer can rebuild an exception safely.
    """
    if channel != ERROR or not isinstance(value, BaseException):
        return value
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # an error that cannot be described is still kept by its class
        return f"<{type(value).__name__}>"


def rebuilt_channels(checkpoint: Checkpoint, metadata: Mapping[str, Any]) -> Sequence[str]:
    """The delta channels whose value is not in a checkpoint but rebuilt from its ancestors' writes."""
    values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
    return [name for name in metadata.get(_DELTA_COUNTERS) or () if name in versions and name not in values]


def _run_id(metadata: Mapping[str, Any]) -> str | None:
    run_id = metadata.get("run_id")
    return None if run_id is None else run_key(run_id)
