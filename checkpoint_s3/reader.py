"""Reads the objects of threads that a survey has found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from checkpoint_base.errors import CorruptCheckpoint, damage
from checkpoint_base.records import Chunk, ChunkId, InboxQuery, ListQuery, StoredCheckpoint, WriteRecord
from checkpoint_base.transport import Operation
from checkpoint_s3.format import (
    HEAD_BYTES,
    Head,
    Items,
    claimed_end,
    read_head,
    read_items,
    read_writes,
    read_writes_place,
)
from checkpoint_s3.groups import CheckpointObject, Group, WritesObject
from checkpoint_s3.layout import segment_text
from checkpoint_s3.stack import missing_chunks, snapshot_of
from checkpoint_s3.survey import ReadLedger, Surveyor
from checkpoint_s3.transport import Batch, Found, Get
from checkpoint_s3.vanished import Vanished

T = TypeVar("T")

LATEST_SECONDS = 2.0
"""Writes stored within this time before a thread's last object are read, for the times that their writers noted."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads objects from one bucket below one prefix.

    Args:
        surveyor: finds them, and has what the process remembers of them.
    """

    surveyor: Surveyor

    def heads(self, checkpoints: Sequence[CheckpointObject]) -> Operation[Sequence[Head]]:
        """The heads of checkpoints, in the same order.

        Raises:
            CorruptCheckpoint: one cannot be read; those that can are remembered.
            SchemaMismatch: one has a later format.
        """
        known = self.surveyor.memory.heads.known(each.key for each in checkpoints)
        unknown = {each.key: each for each in checkpoints if each.key not in known}
        bodies = yield from self.beginnings([*unknown])
        first: CorruptCheckpoint | None = None
        for (key, each), body in zip(unknown.items(), bodies, strict=True):
            try:
                known[key] = read_head(body, each.checkpoint_key)
            except CorruptCheckpoint as error:
                first = first or error
        self.surveyor.memory.heads.remember(known)
        if first is not None:
            raise first
        return [known[each.key] for each in checkpoints]

    def readable_heads(self, checkpoints: Sequence[CheckpointObject]) -> Operation[Sequence[Head | None]]:
        """`heads`, with None for each that cannot be read."""
        try:
            return (yield from self.heads(checkpoints))
        except CorruptCheckpoint:
            found: list[Head | None] = []
            for each in checkpoints:  # the readable ones are remembered now
                try:
                    found += yield from self.heads([each])
                except CorruptCheckpoint:
                    found.append(None)
            return found

    def beginnings(self, keys: Sequence[str]) -> Operation[Sequence[bytes]]:
        """The beginning of each object, long enough for its head; less if the object ends before."""
        if not keys:
            return []
        answers = yield Batch(Get(key, HEAD_BYTES) for key in keys)
        bodies = [self._there(found, key) for found, key in zip(answers, keys, strict=True)]
        ends = [claimed_end(body) for body in bodies]
        longer = [at for at, end in enumerate(ends) if end > len(bodies[at]) and len(bodies[at]) >= HEAD_BYTES]
        if longer:
            answers = yield Batch(Get(keys[at], ends[at]) for at in longer)
            for at, found in zip(longer, answers, strict=True):
                bodies[at] = self._there(found, keys[at])
        return bodies

    def contents(self, groups: Sequence[Group], *, remember: bool = False) -> Operation[Sequence[StoredCheckpoint]]:
        """Checkpoints with their values and writes, usually in one request.

        With ``remember``, the next checkpoint can be stored on top of each without reading it again.
        """
        memory = self.surveyor.memory
        nonces = {group.thread_id: memory.thread(group.thread_id).nonce for group in groups} if remember else {}
        keys: dict[str, None] = {}
        for group in groups:
            keys.update(dict.fromkeys(group.existing.state_keys))
            keys.update(dict.fromkeys(each.key for each in group.writes))
        bodies = yield from self.bodies([*keys])
        items: dict[str, Items] = {}
        found = [self.read(group, bodies, items) for group in groups]
        # Writes may refer to chunks that only an earlier state of their checkpoint has.
        lacking = [
            at
            for at, (group, stored) in enumerate(zip(groups, found, strict=True))
            if group.replaced and missing_chunks(stored.writes, stored.chunks)
        ]
        brought = yield from self.all_chunks([groups[at] for at in lacking])
        for at, chunks in zip(lacking, brought, strict=True):
            found[at] = replace(found[at], chunks={**chunks, **found[at].chunks})
        if remember:
            for group, stored in zip(groups, found, strict=True):
                held = [items[key] for key in group.existing.state_keys]
                snapshot = snapshot_of(group.existing.parsed, held, stored)
                memory.remember(stored.record.key, snapshot, nonces[group.thread_id])
        return found

    def all_chunks(self, groups: Sequence[Group]) -> Operation[Sequence[Mapping[ChunkId, Chunk]]]:
        """The chunks of all objects that these checkpoints have or had, replaced and removed ones included.

        Objects that are deleted by now are skipped.

        Raises:
            Vanished: among them is a checkpoint that was not replaced when it was listed, so the rest may be gone, too.
        """
        keys = [dict.fromkeys(key for each in group.checkpoints for key in each.state_keys) for group in groups]
        asked = [*dict.fromkeys(key for some in keys for key in some)]
        if not asked:
            return [{} for _ in groups]
        answers = yield Batch(Get(key) for key in asked)
        there = {key: found.body for key, found in zip(asked, answers, strict=True) if found}
        for group in groups:
            if group.checkpoint is not None and group.checkpoint.key not in there:
                raise Vanished(self.named(group.checkpoint.key))
        return [self._chunks([key for key in some if key in there], there) for some in keys]

    def lacking(self, groups: Sequence[Group]) -> Operation[Sequence[Group]]:
        """Those whose writes refer to chunks that only a replaced or removed state of their checkpoint has."""
        found = []
        for group in groups:
            states = group.checkpoint.state_keys if group.checkpoint else []
            bodies = yield from self.bodies([*states, *(each.key for each in group.writes)])
            writes, chunks = read_all_writes(group.writes, bodies)
            if missing_chunks(writes, chunks, self._chunks(states, bodies)):
                found.append(group)
        return found

    def _chunks(self, keys: Iterable[str], bodies: Mapping[str, bytes]) -> dict[ChunkId, Chunk]:
        """The chunks in the objects with these keys, which hold checkpoints."""
        return {id_: chunk for key in keys for id_, chunk in read_items(bodies[key], self.named(key)).chunks.items()}

    def times(
        self, threads: Sequence[tuple[ReadLedger, Sequence[Group]]]
    ) -> Operation[Sequence[tuple[int | None, int]]]:
        """When each thread's first checkpoint was put (None without one), and when anything of it was last written."""
        last: list[list[WritesObject]] = []
        for _, groups in threads:
            latest = max((object_.modified for group in groups for object_ in group.current), default=0.0)
            writes = (object_ for group in groups for object_ in group.writes)
            last.append([object_ for object_ in writes if object_.modified >= latest - LATEST_SECONDS])
        noted = yield from self._noted_times([object_ for some in last for object_ in some])
        found = []
        for (read, groups), some in zip(threads, last, strict=True):
            put = [group.checkpoint.parsed.label.written_at for group in groups if group.checkpoint]
            created = [time for time in (read.ledger.created_at, *put) if time is not None]
            written = [noted[object_.key, object_.etag] for object_ in some]
            found.append((min(created, default=None), max([read.ledger.updated_at, *put, *written])))
        return found

    def _noted_times(self, objects_: Sequence[WritesObject]) -> Operation[Mapping[tuple[str, str], int]]:
        """When each object's latest write was made, as its writer noted it, by key and ETag."""
        known = self.surveyor.memory.write_times.known((each.key, each.etag) for each in objects_)
        unknown = [each for each in objects_ if (each.key, each.etag) not in known]
        bodies = yield from self.beginnings([each.key for each in unknown])
        for each, body in zip(unknown, bodies, strict=True):
            try:
                known[each.key, each.etag] = read_writes_place(body, each.described)[2]
            except CorruptCheckpoint:
                known[each.key, each.etag] = int(each.modified * 1_000_000)
        self.surveyor.memory.write_times.remember(known)
        return known

    def bodies(self, keys: Sequence[str]) -> Operation[Mapping[str, bytes]]:
        if not keys:
            return {}
        answers = yield Batch(Get(key) for key in keys)
        return {key: self._there(found, key) for key, found in zip(keys, answers, strict=True)}

    def named(self, key: str) -> str:
        """An object of a thread, for a message. A very long id of a thread cannot be told from a key."""
        thread_id = segment_text(key.removeprefix(self.surveyor.keys.folders).partition("/")[0])
        return f"object {key!r}" if thread_id is None else f"object {key!r} of thread {thread_id!r}"

    def _there(self, found: Found | None, key: str) -> bytes:
        if found is None:
            raise Vanished(self.named(key))
        return found.body

    def read(self, group: Group, bodies: Mapping[str, bytes], items: dict[str, Items]) -> StoredCheckpoint:
        """Build a checkpoint from the bodies of its objects, which are given by key.

        ``items`` has what was already parsed of them, by key, and takes in what is parsed here.
        """
        checkpoint = group.existing
        key = checkpoint.checkpoint_key
        head = read_head(bodies[checkpoint.key], key)
        held: list[Items] = []
        chunks: dict[ChunkId, Chunk] = {}
        for part in checkpoint.state_keys:
            if part not in items:
                items[part] = read_items(bodies[part], self.named(part))
            held.append(items[part])
            chunks.update(items[part].chunks)
        values = {}
        for pair in head.record.channels:
            if pair in head.stored:
                found = next((some.values[pair] for some in held if pair in some.values), None)
                if found is None:
                    raise damage(f"checkpoint {key.place}: the value of channel {pair[0]!r} is missing from the store")
                values[pair[0]] = found
        writes, brought = read_all_writes(group.writes, bodies)
        return StoredCheckpoint(head.record, values, tuple(writes), {**brought, **chunks})


def read_all_writes(
    objects_: Iterable[WritesObject], bodies: Mapping[str, bytes]
) -> tuple[list[WriteRecord], dict[ChunkId, Chunk]]:
    """The writes of one checkpoint in these objects, which are as in `Group`; their bodies are given by key.

    Of ordinary writes with one index, the first stored counts.
    """
    writes: dict[tuple[str, int], WriteRecord] = {}
    chunks: dict[ChunkId, Chunk] = {}
    for each in objects_:
        held, brought = read_writes(bodies[each.key], each.described)
        for write in held:
            writes.setdefault((write.task_id, write.idx), write)
        chunks.update(brought)
    return list(writes.values()), chunks


def candidates(all_: Iterable[T], page: Sized, query: ListQuery | InboxQuery) -> Iterator[Sequence[T]]:
    """Those to look at together for a page, then the next ones, until the caller has filled ``page`` or none are left.

    If the query has terms, they are more each time, as matches turn out to be rare.
    """
    rest = iter(all_)
    size = 16 if query.terms else 0
    while (room := query.limit - len(page)) > 0 and (some := [*islice(rest, max(room, size))]):
        yield some
        size = min(4 * size, 1024)
