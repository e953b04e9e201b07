"""Brings threads along from any saver of LangGraph, through the interface that all of them have.

Unlike a transfer, which copies records and bytes, this reads values and stores them anew. So it also serves between two
of our savers that store values differently, as when existing threads are to be encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, TypeAlias

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, ChannelVersions, Checkpoint, CheckpointTuple
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from checkpoint_base.errors import ConflictError, StoreUnavailable, UnsupportedOperation
from checkpoint_base.keys import CheckpointKey, checkpoint_id_of, checkpoint_of, config_of, shown, thread_key
from checkpoint_base.operations import kept_write, rebuilt_channels
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.times import microseconds, now, time_in
from checkpoint_base.transport import Operation, about, arun, run
from checkpoint_base.two_stores import Directed, Directing, Transferred, by_age, checkpoints_of, on, refuse_foreign

AnySaver: TypeAlias = BaseCheckpointSaver[Any]

_Writes: TypeAlias = dict[int, tuple[str, Any]]
"""A task's writes by their numbers, which are positions or, for channels of LangGraph's own, below 0."""

_OURS = re.compile(r"[0-9]{32}\.")
"""How versions begin in our savers and in most of LangGraph's; behind it comes what tells branches from each other."""


def import_thread(source: AnySaver, target: CheckpointSaver, thread_id: str) -> int:
    """Bring a thread along from any LangGraph saver, under its own id; return how many checkpoints were sent.

    The copy has the checkpoints of every namespace with their values, metadata and pending writes, as ``source``
    returns them. Only versions of channels may differ: those that are numbers become texts, and where one stands for
    two values, each gets its own. Whatever has a time in ``target`` gets that of its checkpoint; the writes of parallel
    tasks keep the order in which ``source`` returns them. If it lacks the thread, nothing is stored. One checkpoint at
    a time is held in memory, if ``source`` lists them one by one.

    Repeating it sends only what the target lacks, so it can be stopped at any time, and repeated when the thread has
    continued in the source. Nothing should use the thread in the target meanwhile, nor before it is whole: what was
    sent stays there if this is stopped, or a store becomes unavailable. If any other error is raised, a thread of which
    the target had no checkpoint is removed there again.

    Raises:
        ConflictError: the target has checkpoints or writes of this thread that the source lacks; or some checkpoints
            were removed from the source meanwhile.
        SerializationError: the target cannot store a value exactly; the message says where it is.
        UnsupportedOperation: a checkpoint needs writes of ancestors that the source does not show, or the source's
            versions are not numbered.
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


def _import(source: AnySaver, target: CheckpointSaver, thread_id: str) -> Operation[Transferred]:
    if source is target:
        raise UnsupportedOperation("source and target are the same saver: pass another one as the target")
    yield from on(target, target.store.setup())
    reader = _Interface(source)
    listed = yield Directed(reader, {"configurable": {"thread_id": thread_id}})
    key = thread_key(thread_id)
    there = yield from checkpoints_of(target, key)
    refuse_foreign(key, there.keys() - listed.keys())
    thread = _Import(reader, target, listed, there.keys())
    sent = 0
    try:
        # What the target has comes first: it says which values versions stand for there.
        for checkpoint in sorted(_parents_first(listed), key=lambda checkpoint: checkpoint not in there):
            sent += yield from thread.bring(checkpoint)
    except StoreUnavailable:
        raise
    except Exception:
        if not there:  # a graph would go on from the part that was stored
            yield from on(target, target.store.delete_threads([key]))
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
    """Of the value that the target has for a namespace, channel and version; empty if it has none."""

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
        checkpoint, unsent = self._renumbered(key, found.checkpoint)
        operations = replace(self.target.operations, clock=lambda: _written_at(found))
        if key not in self.had:
            config = config_of(listed.parent or replace(key, checkpoint_id=""))
            yield from on(self.target, operations.put(config, checkpoint, found.metadata, unsent))
        missing = yield from self._missing_writes(key, _by_task(found))
        for task_path, task_id, writes in missing:
            yield from on(self.target, operations.put_writes(config_of(key), writes, task_id, task_path))
        return bool(missing) or key not in self.had

    def _renumbered(self, key: CheckpointKey, checkpoint: Checkpoint) -> tuple[Checkpoint, ChannelVersions]:
        """Return a checkpoint whose versions each stand for one value, and those that the target does not have yet.

        Most versions stay as they are. But a graph cannot compare numbers with the texts that will follow them here.
        And one version stands for two values if the source numbers the branches of a fork alike, or if it keeps every
        checkpoint whole and a node changed a value in place. Within a checkpoint, versions compare as they did.
        """
        values, versions = checkpoint["channel_values"], checkpoint["channel_versions"]
        own: dict[str, Any] = {}
        unsent: ChannelVersions = {}
        for channel, version in versions.items():
            digest = self._digest(values[channel], f"channel {channel!r} of {key.place}") if channel in values else b""
            own[channel] = _as_ours(version, digest)
            if self.digests.get((key.checkpoint_ns, channel, own[channel]), digest) != digest:
                own[channel] = _numbered(version, digest)
            place = (key.checkpoint_ns, channel, own[channel])
            if place not in self.digests:
                unsent[channel] = own[channel]
            self.digests[place] = digest
        seen: dict[str, ChannelVersions] = {
            node: {
                channel: own[channel] if versions.get(channel) == version else _as_ours(version, b"")
                for channel, version in channels.items()
            }
            for node, channels in checkpoint["versions_seen"].items()
        }
        return {**checkpoint, "channel_versions": own, "versions_seen": seen}, unsent

    def _missing_writes(
        self, key: CheckpointKey, tasks: Mapping[str, _Writes]
    ) -> Operation[list[tuple[str, str, Sequence[tuple[str, Any]]]]]:
        """The path, id and writes of each task some of whose writes the target lacks, or has in another state."""
        stored = None
        if key in self.had:
            stored = yield from on(self.target, self.target.operations.get_tuple(config_of(key)))
        there = _by_task(stored) if stored else {}
        if ahead := [task_id for task_id, writes in there.items() if writes.keys() > tasks.get(task_id, {}).keys()]:
            raise ConflictError(
                f"{key.place} has writes of task {shown(ahead[0])} in the target that it does not have in the source: "
                "delete the thread there first, or leave it as it is"
            )
        # LangGraph's interface does not show the path of a task, by which tasks are sorted.
        return [
            (f"{number:08}", task_id, [*writes.values()])
            for number, (task_id, writes) in enumerate(tasks.items())
            if not self._holds(there.get(task_id, {}), writes, f"writes of task {shown(task_id)} on {key.place}")
        ]

    def _holds(self, there: _Writes, writes: _Writes, what: str) -> bool:
        """Whether a task's writes are all there. Only those to channels of LangGraph's own are ever replaced."""
        if not writes.keys() <= there.keys():
            return False
        # What is there may be read as plain data, so the other is compared as it would be read.
        values = self.target.operations.values
        return all(
            self._digest(there[at][1], what) == self._digest(values.rebuild(values.dump(value, what), what), what)
            for at, (_, value) in writes.items()
            if at < 0
        )

    def _digest(self, value: Any, what: str) -> bytes:
        values = self.target.operations.values
        if isinstance(values.serde, EncryptedSerializer):  # whose bytes differ each time
            values = replace(values, serde=values.serde.serde)
        kind, data = values.dump(value, what)
        return blake2b(kind.encode() + data, digest_size=16).digest()


def _by_task(found: CheckpointTuple) -> dict[str, _Writes]:
    """The writes of each task."""
    tasks: dict[str, list[tuple[str, Any]]] = {}
    for task_id, channel, value in found.pending_writes or ():
        tasks.setdefault(task_id, []).append((channel, kept_write(channel, value)))
    for writes in tasks.values():
        writes.sort(key=lambda write: write[0] in WRITES_IDX_MAP)  # these may come later, and must not shift the others
    return {
        task_id: {WRITES_IDX_MAP.get(channel, at): (channel, value) for at, (channel, value) in enumerate(writes)}
        for task_id, writes in tasks.items()
    }


def _as_ours(version: Any, digest: bytes) -> str:
    """A version as it is if it has the form of ours, or else in that form."""
    return version if isinstance(version, str) and _OURS.match(version) else _numbered(version, digest)


def _numbered(version: Any, digest: bytes) -> str:
    """The version of the same number that belongs to one value."""
    try:
        number = int(version.split(".")[0] if isinstance(version, str) else version)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnsupportedOperation(
            f"no version can follow {version!r}, which is not numbered: threads of this saver cannot be imported"
        ) from error
    return f"{number:032}.{int.from_bytes(digest[:6], 'big'):016}"


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
    return now() if at is None else microseconds(at)
