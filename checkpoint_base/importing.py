"""Brings threads along from any saver of LangGraph, through the interface that all of them have.

Unlike a transfer, which copies records and bytes, this reads values and stores them anew. So it also serves between two
of our savers that store values differently, as when existing threads are to be encrypted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from checkpoint_base.errors import ConflictError, StoreUnavailable, UnsupportedOperation
from checkpoint_base.keys import CheckpointKey, checkpoint_id_of, checkpoint_of, config_of, thread_key, version_key
from checkpoint_base.listings import time_in
from checkpoint_base.operations import rebuilt_channels
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.transfers import Directed, Directing, Transferred, by_age, index, on, refuse_foreign
from checkpoint_base.transport import Operation, about, arun, run

AnySaver: TypeAlias = BaseCheckpointSaver[Any]

_UNIQUE = re.compile(r"[0-9]{32}\.[0-9]+")
"""How LangGraph's savers number versions: a random part tells those of different branches from each other."""


def import_thread(source: AnySaver, target: CheckpointSaver, thread_id: str) -> int:
    """Bring a thread along from any LangGraph saver, under its own id; return how many checkpoints were sent.

    The copy has the checkpoints of every namespace with their values, metadata and pending writes, as ``source``
    returns them. Whatever has a time in ``target`` gets that of its checkpoint; the writes of parallel tasks keep the
    order in which ``source`` returns them. If it lacks the thread, nothing is stored. One checkpoint at a time is held
    in memory, if ``source`` lists them one by one.

    Repeating it sends only what the target lacks, so it can be stopped at any time, and repeated when the thread has
    continued in the source. Nothing should use the thread in the target meanwhile. If an error is raised, a thread
    that the target did not have is removed there again, unless the target is unavailable.

    Raises:
        ConflictError: the target has checkpoints of this thread that the source lacks; or some were removed from the
            source meanwhile.
        SerializationError: the target cannot store a value exactly; the message says where it is.
        UnsupportedOperation: a checkpoint needs writes of ancestors that the source does not show, or the source gives
            one version of a channel two values.
        Exception: whatever ``source`` raises.
    """
    return import_counting(source, target, thread_id).sent


def import_counting(source: AnySaver, target: CheckpointSaver, thread_id: str) -> Transferred:
    """`import_thread`, which also returns how many checkpoints the target had already."""
    return run(about(thread_key(thread_id), _import(source, target, thread_id)), Directing())


async def aimport_thread(source: AnySaver, target: CheckpointSaver, thread_id: str) -> int:
    """`import_thread`, by the async methods of both."""
    return (await arun(about(thread_key(thread_id), _import(source, target, thread_id)), Directing())).sent


def thread_ids(source: AnySaver) -> Iterator[str]:
    """Yield the threads of a saver, each once. LangGraph's interface lists them only with all of their checkpoints."""
    if isinstance(source, CheckpointSaver):
        yield from (info.thread_id for info in source.threads())
        return
    known = set()
    for found in source.list(None):
        thread_id = found.config["configurable"]["thread_id"]
        if thread_id not in known:
            known.add(thread_id)
            yield thread_id


@dataclass(frozen=True, slots=True)
class _Listed:
    """What a listing of the source says of a checkpoint, without its contents."""

    config: RunnableConfig
    parent: CheckpointKey | None
    open_channels: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Interface:
    """Reads a saver. A request is a config: of a thread, for all that is in it, or of one checkpoint."""

    saver: AnySaver

    def execute(self, config: RunnableConfig) -> Any:
        if checkpoint_id_of(config):
            return self.saver.get_tuple(config)
        return dict(map(_listed, self.saver.list(config)))

    async def aexecute(self, config: RunnableConfig) -> Any:
        if checkpoint_id_of(config):
            return await self.saver.aget_tuple(config)
        return dict([_listed(found) async for found in self.saver.alist(config)])

    def close(self) -> None:
        """It owns nothing."""

    async def aclose(self) -> None:
        """It owns nothing."""


def _import(source: AnySaver, target: CheckpointSaver, thread_id: str) -> Operation[Transferred]:
    if source is target:
        raise UnsupportedOperation("source and target are the same saver")
    yield from on(target, target.store.setup())
    reader = _Interface(source)
    listed = yield Directed(reader, {"configurable": {"thread_id": thread_id}})
    there = yield from index(target, thread_key(thread_id))
    refuse_foreign(thread_key(thread_id), there.keys() - listed.keys())
    thread = _Import(reader, target, listed, there.keys())
    sent = 0
    try:
        for key in _parents_first(listed):
            sent += yield from thread.bring(key)
    except StoreUnavailable:
        raise
    except Exception:
        if not there:  # a graph would go on from the part that was stored
            yield from on(target, target.store.delete_threads([thread_key(thread_id)]))
        raise
    return Transferred(sent, len(listed) - sent)


@dataclass(slots=True)
class _Import:
    """The import of one thread."""

    reader: _Interface
    target: CheckpointSaver
    listed: Mapping[CheckpointKey, _Listed]
    """The checkpoints of the source."""
    had: Set[CheckpointKey]
    """Those that the target had at first."""
    digests: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    """Of the value that is stored for a namespace, channel and version; empty if the version can have no other."""

    def bring(self, key: CheckpointKey) -> Operation[bool]:
        """Store what the target lacks of a checkpoint; return whether it lacked anything."""
        listed = self.listed[key]
        if listed.open_channels and listed.parent is not None and listed.parent not in self.listed:
            raise UnsupportedOperation(
                f"{', '.join(map(repr, listed.open_channels))} of {key.place} would be rebuilt from checkpoints before "
                "it, which the source does not show: if it is a saver of this project, use transfer instead"
            )
        found = yield Directed(self.reader, listed.config)
        if found is None:
            raise ConflictError(f"{key.place} was removed from the source meanwhile: repeat this")
        if key not in self.had:
            yield from on(self.target, self._put(key, found))
        self._check_versions(key, found)
        has_put_writes = yield from on(self.target, self._put_writes(key, found))
        return has_put_writes or key not in self.had

    def _put(self, key: CheckpointKey, found: CheckpointTuple) -> Operation[RunnableConfig]:
        parent = self.listed[key].parent
        config = config_of(parent or replace(key, checkpoint_id=""))
        unsent = {
            channel: version
            for channel, version in found.checkpoint["channel_versions"].items()
            if (key.checkpoint_ns, channel, version_key(version)) not in self.digests
        }
        operations = replace(self.target.operations, clock=lambda: _written_at(found))
        return (yield from operations.put(config, found.checkpoint, found.metadata, unsent))

    def _check_versions(self, key: CheckpointKey, found: CheckpointTuple) -> None:
        """Raise an error if a version whose value is stored stands for another value here."""
        versions = found.checkpoint["channel_versions"]
        for channel, value in found.checkpoint["channel_values"].items():
            version = versions.get(channel)
            if version is None:
                continue
            digest = b""
            if not (isinstance(version, str) and _UNIQUE.fullmatch(version)):
                kind, data = self.target.serde.dumps_typed(value)
                digest = blake2b(kind.encode() + data, digest_size=16).digest()
            if self.digests.setdefault((key.checkpoint_ns, channel, version_key(version)), digest) != digest:
                raise UnsupportedOperation(
                    f"channel {channel!r} of {key.place} has version {version!r} as in another checkpoint, but another "
                    "value: the source numbers the versions of all branches alike, so this fork cannot be imported"
                )

    def _put_writes(self, key: CheckpointKey, found: CheckpointTuple) -> Operation[bool]:
        """Store the writes that the target lacks; return whether there are any."""
        tasks: dict[str, list[tuple[str, Any]]] = {}
        for task_id, channel, value in found.pending_writes or ():
            tasks.setdefault(task_id, []).append((channel, value))
        there: Set[tuple[str, int]] = set()
        if key in self.had and tasks:
            stored = yield from self.target.store.load(key.namespace, key.checkpoint_id)
            there = {(write.task_id, write.idx) for write in stored.writes} if stored else there
        operations = replace(self.target.operations, clock=lambda: _written_at(found))
        is_lacking = False
        for number, (task_id, writes) in enumerate(tasks.items()):
            # Writes are numbered, but for those to channels of LangGraph's own, which may come later.
            writes.sort(key=lambda write: write[0] in WRITES_IDX_MAP)
            numbers = {(task_id, WRITES_IDX_MAP.get(channel, at)) for at, (channel, _) in enumerate(writes)}
            if not numbers <= there:
                is_lacking = True
                # LangGraph's interface does not show the path of a task, by which tasks are sorted.
                yield from operations.put_writes(config_of(key), writes, task_id, f"{number:08}")
        return is_lacking


def _listed(found: CheckpointTuple) -> tuple[CheckpointKey, _Listed]:
    key = checkpoint_of(found.config)
    parent_id = checkpoint_id_of(found.parent_config)
    parent = replace(key, checkpoint_id=parent_id) if parent_id else None
    return key, _Listed(found.config, parent, rebuilt_channels(found.checkpoint, found.metadata))


def _parents_first(listed: Mapping[CheckpointKey, _Listed]) -> Iterator[CheckpointKey]:
    """Yield them oldest first; but parents before children, even if a clock was ahead and gave them larger ids."""
    yielded = set()
    for key in sorted(listed, key=by_age):
        line = []
        at: CheckpointKey | None = key
        while at is not None and at in listed and at not in yielded:
            yielded.add(at)
            line.append(at)
            at = listed[at].parent
        yield from reversed(line)


def _written_at(found: CheckpointTuple) -> int:
    """The time of a checkpoint in microseconds since 1970, or now if it has none."""
    at = time_in(found.checkpoint.get("ts"))
    if at is None:
        return time.time_ns() // 1000
    return max(0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1))
