"""Checkpoint records in Redis: a thread is one hash, and a request is one script, or one for each of several keys.

Every operation is one request, except `setup` if it has something to create; `put` and `put_writes` if they bring large
values, which are staged first; what reads or lists more than the first answer holds; `delete_runs` if it concerns many
threads; and `copy_thread`.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar
from uuid import uuid4

from checkpoint_base.errors import CorruptCheckpoint, SchemaMismatch, damage_of, kept_changing
from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.records import (
    CHUNK_ID_BYTES,
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
    Order,
    Position,
    StoredCheckpoint,
    ThreadRecord,
    ValueRecord,
    WriteRecord,
    chunks_needed,
    split_ids,
    unreadable,
    unreadable_question,
)
from checkpoint_base.store import THREADS_AT_ONCE, CheckpointStore
from checkpoint_base.transport import Operation, batches
from checkpoint_redis import scripts
from checkpoint_redis.chunks import ATTEMPTS, PIECE_BYTES, Incomplete, complete, pieces
from checkpoint_redis.errors import translated
from checkpoint_redis.format import (
    Field,
    FoundChunks,
    chunk_entries,
    digits,
    pack_checkpoint,
    pack_value,
    pack_write,
    unpack_checkpoint,
    unpack_thread,
    unpack_time,
    unpack_value,
    unpack_write,
)
from checkpoint_redis.pages import Part, Source, completed_page, likely_share, merged
from checkpoint_redis.scripts import Script
from checkpoint_redis.transport import Argument, Call, OneAttempt, RedisTransport

T = TypeVar("T")

LAYOUT_VERSION = 1

BUCKETS = 64
"""How many buckets the threads of a prefix are spread over. A bucket is one slot of a cluster, and has one index."""

LAYOUT = f"{LAYOUT_VERSION} {BUCKETS}"

BUCKET_BYTES = 32 * 1024
"""How much each bucket may answer when all are asked. One that has more to say is asked again if that is needed."""

PIECES_AT_ONCE = 8
"""How many pieces one request sends. redis-py's async client has one timeout for sending all of a request."""

STAGED_MS = 15 * 60 * 1000
"""How long the pieces of a large value or of a copy are kept for the request that takes them over."""

WRITER_MARK = bytes(8)
"""What begins the mark of a writer on the list of staged chunks, and no chunk's id; random bytes follow."""


class RedisStore(CheckpointStore):
    """A `CheckpointStore` under one prefix of a Redis or Valkey database, or cluster.

    Operations on one thread are atomic. Those on several are atomic for each thread, because in a cluster their keys
    are on different servers.

    Args:
        transport: executes the scripts; owned by the store.
        prefix: what every key begins with.
        ttl: how many seconds after its last write a thread expires; None for never.
        refresh_on_read: whether reading a thread puts its expiry off, too.
    """

    def __init__(self, transport: RedisTransport, *, prefix: str, ttl: float | None, refresh_on_read: bool) -> None:
        self._transport = transport
        self._prefix = prefix
        self._ttl = 0 if ttl is None else max(1, round(ttl * 1000))
        self._read_ttl = self._ttl if refresh_on_read else 0

    @property
    def transport(self) -> RedisTransport:
        return self._transport

    def setup(self) -> Operation[None]:
        layout_key = f"{self._prefix}:layout"
        layout = yield Call(scripts.LOOK, (layout_key,), ("layout",))
        _check_layout(layout, self._prefix)
        if layout != LAYOUT.encode():
            # The layout's key is made before any index. So if only an index is there, Redis has dropped the key.
            seen = yield [Call(scripts.LOOK, keys, ("index",)) for keys in self._all_indexes()]
            layout = yield Call(scripts.LOOK, (layout_key,), ("layout",))
            if layout is None and any(found is not None for found in seen):
                raise CorruptCheckpoint(
                    f"the key {layout_key!r} is gone, but other keys of {self._prefix!r} are there: Redis has evicted "
                    "some. Set its maxmemory-policy to noeviction, and restore it from a backup or use another prefix"
                )
            yield Call(scripts.SETUP, (layout_key,), ("begin", LAYOUT))
            # Another version may have begun meanwhile.
            _check_layout((yield Call(scripts.LOOK, (layout_key,), ("layout",))), self._prefix)
            yield [Call(scripts.SETUP, keys, ("fill",)) for keys in self._all_indexes()]
            yield Call(scripts.SETUP, (layout_key,), ("finish", LAYOUT))

    # Writing

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        key = checkpoint.key
        ns = key.checkpoint_ns
        pairs = [*unchanged]

        def call(needed: Collection[ChunkId], staged: Collection[ChunkId], entries: Sequence[Field]) -> Call:
            arguments: list[Argument] = [
                key.thread_id,
                ns,
                key.checkpoint_id,
                pack_checkpoint(checkpoint),
                digits(checkpoint.written_at),
                self._ttl,
                int(bool(checkpoint.open_channels)),
                b"".join(needed),
                b"".join(staged),
                2 * (len(values) + len(entries)),
            ]
            for value in values:
                arguments += (f"v{ns}\0{value.channel}\0{value.version}", pack_value(value.value))
            for entry in entries:
                arguments += entry
            arguments += [f"v{ns}\0{channel}\0{version}" for channel, version in pairs]
            return Call(scripts.PUT, self._keys(key.thread_id), arguments)

        missing = yield from self._store(key.thread_id, (value.value for value in values), chunks, call)
        if missing is None:
            return Missing()
        absent, positions, parent = missing
        return Missing(frozenset(split_ids(absent)), frozenset(pairs[at - 1] for at in positions), bool(parent))

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        def call(needed: Collection[ChunkId], staged: Collection[ChunkId], entries: Sequence[Field]) -> Call:
            arguments: list[Argument] = [
                key.thread_id,
                key.checkpoint_ns,
                key.checkpoint_id,
                digits(max(write.written_at for write in writes)),
                self._ttl,
                int(any(write.questions for write in writes)),
                b"".join(needed),
                b"".join(staged),
                3 * len(writes),
            ]
            for write in writes:
                arguments += (f"{write.task_id}\0{write.idx}\0", int(write.idx >= 0), pack_write(write))
            for entry in entries:
                arguments += entry
            return Call(scripts.PUT_WRITES, self._keys(key.thread_id), arguments)

        absent = yield from self._store(key.thread_id, (write.value for write in writes), chunks, call)
        return Missing() if absent is None else Missing(frozenset(split_ids(absent)))

    def _store(
        self,
        thread_id: str,
        values: Iterable[ValueRecord],
        chunks: Mapping[ChunkId, Chunk],
        make_call: Callable[[Collection[ChunkId], Collection[ChunkId], Sequence[Field]], Call],
    ) -> Operation[Any]:
        """Store values with their chunks; chunks that are too large for one call are staged first.

        ``make_call`` gets which chunks must be stored already, which are staged now, and the entries to send with the
        record. What another writer has staged does not count as stored: that writer may have died before it had staged
        everything. Returns the answer: None, or else nothing was stored, and nothing stays staged.
        """
        needed = chunks_needed(values, chunks)
        entries = chunk_entries(chunks)
        if sum(len(content) for _, content in entries) <= PIECE_BYTES:
            return (yield make_call(needed, (), entries))
        keys, writer = self._keys(thread_id), WRITER_MARK + secrets.token_bytes(CHUNK_ID_BYTES - len(WRITER_MARK))

        def staged_and_stored() -> Operation[Any]:
            yield from _send_ahead(scripts.STAGE, keys, (thread_id, writer, STAGED_MS), entries)
            return (yield make_call(needed, chunks.keys(), ()))

        undo = Call(scripts.UNSTAGE, keys, (thread_id, writer))
        missing = yield from _or_undone(staged_and_stored(), undo)
        if missing is not None:
            yield OneAttempt(undo)  # the caller comes with all chunks, as another writer
        return missing

    # Reading

    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        def read(found: Sequence[Any], chunks: FoundChunks) -> tuple[StoredCheckpoint, set[ChunkId]]:
            id_, *parts, flat, rest = found
            chunks.add_flat(flat)
            stored = _stored_checkpoint(CheckpointKey(key.thread_id, key.checkpoint_ns, id_.decode()), parts, chunks)
            return stored, _roots(stored) if rest else set()

        return (yield from self._read(scripts.LOAD, key, checkpoint_id, (), read))

    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        def again(key: CheckpointKey) -> Call:
            place = f"o{key.thread_id}\0{key.checkpoint_id}\0{key.checkpoint_ns}"
            return _list_call(
                self._keys(key.thread_id), f"({place}\1", f"[{place}", terms=query.terms, most=1, budget=0, looks=1
            )

        return (yield from completed_page(query, self._list_sources, _read_checkpoint, again, self._key, newest=True))

    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        def read(found: Sequence[Any], chunks: FoundChunks) -> tuple[Ancestry, set[ChunkId]]:
            generations, flat_seeds, flat_chunks, rest = found
            chunks.add_flat(flat_chunks)
            writes = tuple(tuple(unpack_write(write) for write in generation) for generation in generations)
            seeds = {
                channel.decode(): unpack_value(value)
                for channel, value in zip(flat_seeds[::2], flat_seeds[1::2], strict=True)
            }
            values = [*seeds.values(), *(write.value for generation in writes for write in generation)]
            roots = {id_ for value in values for id_ in value.chunk_ids} if rest else set()
            return Ancestry(writes, seeds, chunks.chunks), roots

        return (yield from self._read(scripts.ANCESTRY, key, checkpoint_id, channels, read)) or Ancestry()

    def _read(
        self,
        script: Script,
        key: NamespaceKey,
        checkpoint_id: str | None,
        more: Collection[str],
        read: Callable[[Sequence[Any], FoundChunks], tuple[T, set[ChunkId]]],
    ) -> Operation[T | None]:
        """Read something of a checkpoint, or of the latest one, with its chunks; None if the checkpoint is not there.

        ``more`` are further arguments of the script. ``read`` gets its answer and the chunks found so far, to which it
        adds those of the answer; it returns what was read, and the roots below which the answer had no room for all.
        If a chunk is not there, all may have changed since, and is read again. If it has not, the thread is damaged:
        it is returned as it is.
        """
        place = (key.thread_id, key.checkpoint_ns, checkpoint_id or "")
        arguments: list[Argument] = [*place, self._read_ttl, PIECE_BYTES, *more]
        chunks, before = FoundChunks(), None
        for _ in range(ATTEMPTS):
            found = yield Call(script, self._keys(key.thread_id), arguments)
            if found is None:
                return None
            result, roots = read(found, chunks)
            lacking = yield from complete([Incomplete(key.thread_id, roots, chunks)], self._key)
            if not lacking or result == before:
                return result
            before = result
        raise kept_changing(key.thread_id)

    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        sources: Sequence[Source[ThreadRecord]] = self._inbox_sources("t", query)
        return (yield from merged(sources, query.limit, _read_thread, newest=query.order == "newest"))

    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        def again(position: Position) -> Call:
            time, thread_id, task_id = position
            place = f"w{digits(time)}\0{thread_id}\0{task_id}"  # the task's entry goes on with an index
            # Among all threads and not of the only one, so that it is an item even if it is lost by now.
            return _inbox_call(
                self._keys(thread_id), "w", "oldest", f"[{place}\0", f"({place}\1",
                only="", terms=query.terms, most=1, budget=0, looks=1,
            )  # fmt: skip

        def sources(query: InboxQuery) -> Sequence[Source[Part[InterruptRecord]]]:
            return self._inbox_sources("w", query)

        is_newest = query.order == "newest"
        return (yield from completed_page(query, sources, _read_question, again, self._key, newest=is_newest))

    # Removing and copying

    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        yield [Call(scripts.DELETE_THREAD, self._keys(id_), (id_,)) for id_ in thread_ids]

    def delete_runs(self, run_ids: Sequence[str], thread_id: str | None = None) -> Operation[None]:
        """A server does nothing else while it carries out a request, so each removes from a batch of threads."""
        indexes = self._all_indexes() if thread_id is None else [self._keys(thread_id)[1:]]
        places: dict[tuple[str, ...], tuple[int, str | bytes]] = dict.fromkeys(indexes, (1, ""))
        damage: Exception | None = None
        while places:
            most = THREADS_AT_ONCE // len(places)
            replies = yield [
                Call(scripts.DELETE_RUNS, keys, (most, *place, *run_ids)) for keys, place in places.items()
            ]
            for keys, (run, behind, found) in zip([*places], replies, strict=True):
                if found and damage is None:
                    damage = translated(found[1])
                if run is None:
                    del places[keys]
                else:
                    places[keys] = (run, behind)
        if damage is not None:
            raise damage

    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        chunks, before = FoundChunks(), None
        for _ in range(ATTEMPTS):
            exported = yield Call(scripts.EXPORT, self._keys(source), (source,))
            if exported is None:
                return True
            meta, flat, chunk_fields = exported
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            ids = {field_[1:] for field_ in chunk_fields}
            yield from complete([Incomplete(source, ids, chunks)], self._key)
            if not ids <= chunks.chunks.keys():
                if before == (meta, fields, ids):
                    raise CorruptCheckpoint(f"thread {source!r} could not be copied: some of its chunks are gone")
                before = meta, fields, ids
                continue
            entries = [*fields.items(), *chunk_entries({id_: chunks.chunks[id_] for id_ in ids})]
            keys = self._keys(target)
            # Under a key of its own, until it is whole: the threads may be on different servers.
            copy = f"{keys[1].removesuffix('index')}copy:{uuid4().hex}"
            undo = Call(scripts.DISCARD, (copy,), ())
            adopted = yield from _or_undone(self._copied(copy, entries, target, meta), undo)
            if adopted is not None:
                return bool(adopted)
            yield OneAttempt(undo)
        raise kept_changing(source)

    def _copied(self, copy: str, entries: Sequence[Field], target: str, meta: bytes) -> Operation[int | None]:
        yield from _send_ahead(scripts.IMPORT, (copy,), (STAGED_MS,), entries)
        adopted: int | None = yield Call(
            scripts.ADOPT, (*self._keys(target), copy), (target, meta, self._ttl, len(entries))
        )
        return adopted

    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        yield [Call(scripts.PRUNE, self._keys(id_), (id_, keep)) for id_ in thread_ids]

    # Keys and requests

    def _all_indexes(self) -> Sequence[tuple[str, ...]]:
        """Return, for each bucket, the keys of a call on its index."""
        return [(f"{self._prefix}:{{{bucket}}}:index",) for bucket in range(BUCKETS)]

    def _key(self, thread_id: str) -> str:
        return self._keys(thread_id)[0]

    def _keys(self, thread_id: str) -> tuple[str, str]:
        """Return the keys of a thread and of its bucket's index. Only the number in braces decides on the slot."""
        # Braces in the thread's id do not matter: Redis uses the first pair.
        bucket = f"{self._prefix}:{{{zlib.crc32(thread_id.encode()) % BUCKETS}}}:"
        return f"{bucket}thread:{thread_id}", f"{bucket}index"

    def _list_sources(self, query: ListQuery) -> Sequence[Source[Part[StoredCheckpoint]]]:
        if query.thread_id is None:
            begin, places, budget = "c", self._all_indexes(), BUCKET_BYTES
            # Twice, because a run stores several checkpoints of its thread one after the other.
            share = min(query.limit, 2 * likely_share(query.limit, BUCKETS))
        else:
            begin, places, budget = f"o{query.thread_id}\0", [self._keys(query.thread_id)], PIECE_BYTES
            share = query.limit
        first = f"{begin}{query.checkpoint_id}\0" if query.checkpoint_id else begin
        bounds = [first[:-1] + chr(ord(first[-1]) + 1)]  # above every member that begins with it
        if query.before:
            bounds.append(begin + query.before)
        if after := query.after:
            thread = f"{after.thread_id}\0" if query.thread_id is None else ""
            bounds.append(f"{begin}{after.checkpoint_id}\0{thread}{after.checkpoint_ns}")
        highest = f"({min(bounds)}".encode()

        def call(source: Source[Part[StoredCheckpoint]], most: int, looks: int) -> Call:
            return _list_call(
                source.keys,
                source.bound,
                f"[{first}",
                ns=query.checkpoint_ns if query.thread_id is not None else None,
                terms=query.terms,
                contents=query.contents,
                most=most,
                budget=budget,
                looks=looks,
                ttl=self._read_ttl if query.thread_id is not None else 0,
                # Later answers only name their chunks, or they would repeat those that they share with earlier ones.
                chunk_budget=budget if source.is_first else 0,
            )

        return [Source(call, keys, highest, share) for keys in places]

    def _inbox_sources(self, kind: str, query: InboxQuery) -> Sequence[Source[Any]]:
        beyond = chr(ord(kind) + 1)
        if query.order == "newest":
            start, end = f"({beyond}", f"[{kind}"
        else:
            start, end = f"[{kind}", f"({beyond}"
        if query.after:
            time, thread_id, task_id = query.after
            start = f"({kind}{digits(time)}\0{thread_id}"
            if kind == "w":
                # A task's entries go on with an index: begin beyond all of them, in either order.
                start += f"\0{task_id}" + ("\0" if query.order == "newest" else "\1")
        if query.thread_id is None:
            places, budget, only = self._all_indexes(), BUCKET_BYTES, ""
            share = likely_share(query.limit, BUCKETS)
        else:
            places, budget, only = [self._keys(query.thread_id)], PIECE_BYTES, query.thread_id
            share = query.limit

        def call(source: Source[Any], most: int, looks: int) -> Call:
            return _inbox_call(
                source.keys, kind, query.order, source.bound, end,
                only=only, terms=query.terms, most=most, budget=budget, looks=looks,
            )  # fmt: skip

        return [Source(call, keys, start, share) for keys in places]


# The arguments of the scripts that list, in their order


def _list_call(
    keys: Sequence[str],
    highest: Argument,
    lowest: Argument,
    *,
    terms: Sequence[bytes],
    most: int,
    budget: int,
    looks: int,
    ns: str | None = None,
    contents: bool = True,
    ttl: int = 0,
    chunk_budget: int = 0,
) -> Call:
    namespace = (int(ns is not None), ns or "")
    bounded = (most, budget, looks, ttl, chunk_budget)
    return Call(scripts.LIST, keys, (highest, lowest, *namespace, b"".join(terms), int(contents), *bounded))


def _inbox_call(
    keys: Sequence[str],
    kind: str,
    order: Order,
    start: Argument,
    end: Argument,
    *,
    only: str,
    terms: Sequence[bytes],
    most: int,
    budget: int,
    looks: int,
) -> Call:
    command = "ZREVRANGEBYLEX" if order == "newest" else "ZRANGEBYLEX"
    return Call(scripts.INBOX, keys, (kind, command, start, end, only, b"".join(terms), most, budget, looks))


# What listings find


def _read_checkpoint(item: Sequence[Any], chunks: dict[str, FoundChunks]) -> tuple[Any, Part[StoredCheckpoint]]:
    thread, ns, id_, *parts, flat, rest = item
    key = CheckpointKey(thread.decode(), ns.decode(), id_.decode())
    # A page has a chunk once, even if several checkpoints of a thread share it.
    shared = chunks.setdefault(key.thread_id, FoundChunks())
    shared.add_flat(flat)
    with damage_of(key.thread_id):
        stored = _stored_checkpoint(key, parts, shared)
    part = Part(key.thread_id, stored, shared, _roots(stored) if rest else ())
    return key.list_order, part


def _read_thread(item: Sequence[Any], _: dict[str, FoundChunks]) -> tuple[Any, ThreadRecord]:
    thread, updated, meta, latest, packed = item
    thread_id = thread.decode()
    record = None if latest is None else _listed_record(thread_id, latest, packed)
    found = unpack_thread(thread_id, updated, meta, record)
    return found.position, found


def _read_question(item: Sequence[Any], chunks: dict[str, FoundChunks]) -> tuple[Any, Part[InterruptRecord]]:
    thread, latest, packed, member, write, flat, rest = item
    thread_id = thread.decode()
    shared = chunks.setdefault(thread_id, FoundChunks())
    shared.add_flat(flat)
    # The time is the index's, by which the listing goes on.
    time, _, task, *_ = member[1:].split(b"\0")  # damage may have cut the task's id in two
    try:
        asked = replace(unpack_write(write), written_at=unpack_time(time))
    except CorruptCheckpoint:
        asked = unreadable_question(task.decode(errors="replace"), unpack_time(time))
    found = InterruptRecord(_listed_record(thread_id, latest, packed), asked, shared.chunks)
    return found.position, Part(thread_id, found, shared, found.write.value.chunk_ids if rest else ())


def _listed_record(thread_id: str, latest: bytes, packed: bytes | Exception) -> CheckpointRecord:
    """The latest checkpoint of a thread, in a listing that one damaged thread must not end."""
    key = CheckpointKey(thread_id, "", latest.decode(errors="replace"))
    if not isinstance(packed, bytes):  # the thread is lost, as this error says
        return unreadable(key)
    try:
        return unpack_checkpoint(key, packed)
    except CorruptCheckpoint:
        return unreadable(key)


# Answers and pieces


def _stored_checkpoint(key: CheckpointKey, parts: Sequence[Any], chunks: FoundChunks) -> StoredCheckpoint:
    packed, values, writes = parts
    record = unpack_checkpoint(key, packed)
    contents = {
        channel: unpack_value(value)
        for (channel, _), value in zip(record.channels, values, strict=False)
        if value is not None
    }
    return StoredCheckpoint(record, contents, tuple(unpack_write(write) for write in writes), chunks.chunks)


def _check_layout(layout: bytes | None, prefix: str) -> None:
    """Refuse a layout of another version; it may be missing, or not all there yet."""
    if layout not in (None, f"creating {LAYOUT}".encode(), LAYOUT.encode()):
        raise SchemaMismatch(
            f"the key '{prefix}:layout' says {layout.decode(errors='replace')!r}, but this version of "
            f"checkpoint-backends knows only {LAYOUT!r}: upgrade it, or use another prefix"
        )


def _roots(stored: StoredCheckpoint) -> set[ChunkId]:
    values = (*stored.values.values(), *(write.value for write in stored.writes))
    return {id_ for value in values for id_ in value.chunk_ids}


def _or_undone(operation: Operation[T], undo: Call) -> Operation[T]:
    """Carry out an operation. If it fails, ask once for what it has sent ahead to be removed.

    Only once, because the caller has waited long enough, or wants to stop. Otherwise it goes when `STAGED_MS` are over.
    """
    try:
        return (yield from operation)
    except GeneratorExit:  # nobody carries out any more requests
        raise
    except BaseException:
        with suppress(Exception):
            yield OneAttempt(undo)
        raise


def _send_ahead(
    script: Script, keys: Sequence[str], arguments: Sequence[Argument], entries: Iterable[Field]
) -> Operation[None]:
    """Send entries in calls of about `PIECE_BYTES`, several at once; each call begins with ``arguments``."""
    ready = [*pieces((entry, len(entry[1])) for entry in entries)]
    for some in batches(ready, PIECES_AT_ONCE):
        yield [Call(script, keys, (*arguments, *chain.from_iterable(piece))) for piece in some]
