"""Checkpoint records in PostgreSQL tables. A request is one statement, most often a call of a function in the schema.

Every operation is one request, except `setup` if it has something to create, `delete_runs`, which looks up the threads
first, and `list` if a page is too large for one answer.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from checkpoint_base.errors import (
    InvalidKey,
    SchemaMismatch,
    SerializationError,
)
from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.metadata import TERM_BYTES
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
    ValueRecord,
    WriteRecord,
    chunks_needed,
)
from checkpoint_base.store import THREADS_AT_ONCE, CheckpointStore
from checkpoint_base.transport import Operation, batches
from checkpoint_postgres.arrays import BigIntegers, Blobs, Booleans, Integers, Texts
from checkpoint_postgres.errors import NotSetUp, TooLarge
from checkpoint_postgres.rows import ancestry_of, interrupt_record, thread_record, with_contents
from checkpoint_postgres.schema import Schema
from checkpoint_postgres.transport import PostgresTransport, Rows, Statement, Transaction

MAX_CHANNEL_BYTES = 2000
"""The most bytes of a channel's name and version. Their index entry holds 2.7 KB, of which thread_id may take 512."""

MAX_REQUEST_BYTES = 1_000_000_000
"""The most new bytes that one request sends.

PostgreSQL ends a session that sends a message of more than 1 GiB, and an array cannot be larger either. The difference
is for ids and lengths.
"""

LARGE_BYTES = 32 * 1024 * 1024
"""A request with more new bytes than this may keep the server silent for minutes: 300 MB took 16 s."""


class PostgresStore(CheckpointStore):
    """A `CheckpointStore` in one schema of a PostgreSQL database."""

    def __init__(self, transport: PostgresTransport, schema: Schema) -> None:
        self._transport = transport
        self._schema = schema
        self._sql = schema.statements

    @property
    def transport(self) -> PostgresTransport:
        return self._transport

    def setup(self) -> Operation[None]:
        try:
            version = self._version((yield Statement(self._sql.version)))
        except NotSetUp:
            version = 0
        if version < self._schema.version:
            yield Transaction(self._migrate)

    def _version(self, rows: Rows) -> int:
        if not rows:
            raise SchemaMismatch(
                f"schema {self._schema.name!r} has the table schema_version of another program: choose another schema"
            )
        version: int
        [(version, was_renamed)] = rows
        if was_renamed:
            raise SchemaMismatch(
                f"schema {self._schema.name!r} was renamed, but its functions still work on the one of its old name: "
                "rename it back; `checkpoints transfer` copies threads to another schema"
            )
        if version // 100 > self._schema.version // 100:
            raise SchemaMismatch(
                f"schema {self._schema.name!r} has layout {version // 100}, this version of checkpoint-backends knows "
                f"up to {self._schema.version // 100}: upgrade it, or choose another schema"
            )
        return version

    def _migrate(self) -> Generator[Statement, Rows, None]:
        """Create or upgrade the schema, unless somebody else did so while we waited for the lock."""
        yield Statement(self._sql.begin)
        yield Statement(self._sql.setup_lock)
        [(has_schema, has_version)] = yield Statement(self._sql.situation)
        if not has_schema:
            yield Statement(self._sql.create_schema)
        if has_version:
            version = self._version((yield Statement(self._sql.version)))
        else:
            yield Statement(self._sql.create_version)
            version = 0
        if version < self._schema.version:
            if version:
                yield Statement(self._sql.upgrade_patience)
            for script in self._schema.lacking(version):
                yield Statement(script)
            yield Statement(self._sql.set_version)

    def put(
        self,
        checkpoint: CheckpointRecord,
        values: Sequence[ChannelValue],
        chunks: Mapping[ChunkId, Chunk],
        unchanged: Collection[ChannelVersion],
    ) -> Operation[Missing]:
        key = checkpoint.key
        values = sorted(values, key=lambda value: (value.channel, value.version))
        for value in values:
            _check_length(value.channel, value.version)
        size = _checked_size(key, (value.value for value in values), chunks)
        rows: Rows = yield Statement(
            self._sql.put,
            (
                key.thread_id,
                _ns(key.checkpoint_ns),
                key.checkpoint_ns,
                key.checkpoint_id,
                checkpoint.parent_id,
                checkpoint.run_id,
                checkpoint.caller_id,
                checkpoint.written_at,
                Texts([channel for channel, _ in checkpoint.channels]),
                Texts([version for _, version in checkpoint.channels]),
                Texts(checkpoint.open_channels),
                BigIntegers(_numbers(checkpoint.terms)),
                checkpoint.header,
                Texts([value.channel for value in values]),
                Texts([value.version for value in values]),
                Blobs([value.value.root for value in values]),
                Blobs([value.value.refs for value in values]),
                *_chunk_columns(chunks),
                Blobs([*chunks_needed((value.value for value in values), chunks)]),
                Texts([channel for channel, _ in unchanged]),
                Texts([version for _, version in unchanged]),
            ),
            takes_long=size > LARGE_BYTES,
        )
        [(missing_chunks, missing_channels, missing_versions, missing_parent)] = rows
        return Missing(
            frozenset(missing_chunks or ()),
            frozenset(zip(missing_channels or (), missing_versions or (), strict=True)),
            missing_parent or False,
        )

    def put_writes(
        self, key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Mapping[ChunkId, Chunk]
    ) -> Operation[Missing]:
        writes = sorted(writes, key=lambda write: (write.task_id, write.idx))
        size = _checked_size(key, (write.value for write in writes), chunks)
        rows: Rows = yield Statement(
            self._sql.put_writes,
            (
                key.thread_id,
                _ns(key.checkpoint_ns),
                key.checkpoint_id,
                Texts([write.task_id for write in writes]),
                Integers([write.idx for write in writes]),
                Texts([write.channel for write in writes]),
                Texts([write.task_path for write in writes]),
                Integers([write.questions for write in writes]),
                Booleans([write.settles for write in writes]),
                BigIntegers([write.written_at for write in writes]),
                Blobs([write.value.root for write in writes]),
                Blobs([write.value.refs for write in writes]),
                *_chunk_columns(chunks),
                Blobs([*chunks_needed((write.value for write in writes), chunks)]),
            ),
            takes_long=size > LARGE_BYTES,
        )
        return Missing(frozenset(rows[0][0] or ()))

    def load(self, key: NamespaceKey, checkpoint_id: str | None) -> Operation[StoredCheckpoint | None]:
        rows: Rows = yield Statement(self._sql.load, (key.thread_id, _ns(key.checkpoint_ns), checkpoint_id))
        return with_contents(rows)[0] if rows else None

    def list(self, query: ListQuery) -> Operation[Sequence[StoredCheckpoint]]:
        # All contents of a page arrive in one row. If they are too large for a row, the page is read in smaller parts.
        found: list[StoredCheckpoint] = []
        part = query
        while True:
            try:
                page = yield from self._page(part, takes_long=part is not query)
            except TooLarge:
                if part.limit == 1:
                    raise
                part = replace(part, limit=part.limit // 2)
                continue
            found += page
            left = query.limit - len(found)
            if left == 0 or len(page) < part.limit:
                return found
            part = replace(part, limit=min(part.limit, left), after=page[-1].record.key)

    def _page(self, query: ListQuery, *, takes_long: bool) -> Operation[Sequence[StoredCheckpoint]]:
        if query.thread_id is None:
            statement = self._sql.list_everything
        elif query.checkpoint_ns is None and (query.terms or query.checkpoint_id):
            statement = self._sql.list_thread_matching
        elif query.checkpoint_ns is None:
            statement = self._sql.list_thread
        else:
            statement = self._sql.list_namespace
        rows: Rows = yield Statement(
            statement,
            {
                "thread_id": query.thread_id,
                "ns": _ns(query.checkpoint_ns or ""),
                "checkpoint_id": query.checkpoint_id,
                "before": query.before,
                "after_id": query.after.checkpoint_id if query.after else None,
                "after_thread": query.after.thread_id if query.after else None,
                "after_ns": query.after.checkpoint_ns if query.after else None,
                "terms": _numbers(b"".join(query.terms)),
                "contents": query.contents,
                "limit": query.limit,
            },
            varies=True,
            takes_long=takes_long,
        )
        return with_contents(rows)

    def ancestry(self, key: NamespaceKey, checkpoint_id: str | None, channels: Collection[str]) -> Operation[Ancestry]:
        rows: Rows = yield Statement(
            self._sql.ancestry, (key.thread_id, _ns(key.checkpoint_ns), checkpoint_id, list(channels))
        )
        return ancestry_of(rows[0])

    def delete_threads(self, thread_ids: Sequence[str]) -> Operation[None]:
        yield Statement(self._sql.delete_threads, (list(thread_ids),), takes_long=True)

    def delete_runs(self, run_ids: Sequence[str], thread_id: str | None = None) -> Operation[None]:
        rows: Rows = [(thread_id,)]
        if thread_id is None:
            # A thread whose first checkpoint of a run comes after this look-up keeps it, as if it came after the
            # deletion.
            rows = yield Statement(self._sql.threads_of_runs, (list(run_ids),), varies=True, takes_long=True)
        # Each thread takes a lock. By default, a server has room for 64 for each transaction that may run.
        for some in batches(rows, THREADS_AT_ONCE):
            threads = [found for (found,) in some]
            yield Statement(self._sql.delete_runs, (threads, list(run_ids)), takes_long=True)

    def copy_thread(self, source: str, target: str) -> Operation[bool]:
        rows: Rows = yield Statement(self._sql.copy_thread, (source, target), takes_long=True)
        return bool(rows[0][0])

    def prune(self, thread_ids: Sequence[str], keep: int) -> Operation[None]:
        yield Statement(self._sql.prune, (list(thread_ids), keep), takes_long=True)

    def threads(self, query: InboxQuery) -> Operation[Sequence[ThreadRecord]]:
        rows = yield from self._inbox("threads", query)
        return [thread_record(row) for row in rows]

    def interrupts(self, query: InboxQuery) -> Operation[Sequence[InterruptRecord]]:
        rows = yield from self._inbox("interrupts", query)
        return [interrupt_record(row) for row in rows]

    def _inbox(self, what: str, query: InboxQuery) -> Operation[Rows]:
        statement = getattr(self._sql, f"{what}_{query.order}{'_matching' if query.terms else ''}")
        rows: Rows = yield Statement(statement, _inbox_parameters(query), varies=True)
        return rows


# Parameters


def _ns(checkpoint_ns: str) -> bytes:
    """What stands for a namespace in keys: the names of nested subgraphs may be too long for an index."""
    return blake2b(checkpoint_ns.encode(), digest_size=16).digest() if checkpoint_ns else b""


def _numbers(terms: bytes) -> list[int]:
    """Terms as bigints, which a GIN index of PostgreSQL takes."""
    return list(struct.unpack(f">{len(terms) // TERM_BYTES}q", terms))


def _chunk_columns(chunks: Mapping[ChunkId, Chunk]) -> tuple[Blobs, Booleans, Blobs]:
    ordered = sorted(chunks.values(), key=lambda chunk: chunk.id)
    return (
        Blobs([chunk.id for chunk in ordered]),
        Booleans([chunk.node for chunk in ordered]),
        Blobs([chunk.body for chunk in ordered]),
    )


def _inbox_parameters(query: InboxQuery) -> dict[str, Any]:
    time, thread_id, task_id = query.after or (None, None, None)
    return {
        "thread_id": query.thread_id,
        "terms": _numbers(b"".join(query.terms)),
        "after_time": time,
        "after_thread": thread_id,
        "after_task": task_id,
        "limit": query.limit,
    }


def _check_length(channel: str, version: str) -> None:
    if len(channel) + len(version) <= MAX_CHANNEL_BYTES // 4:  # however many bytes its characters take
        return
    if len(channel.encode()) + len(version.encode()) > MAX_CHANNEL_BYTES:
        raise InvalidKey(
            f"channel {channel[:40]!r}… and its version are longer than {MAX_CHANNEL_BYTES} bytes: shorten its name"
        )


def _checked_size(key: CheckpointKey, values: Iterable[ValueRecord], chunks: Mapping[ChunkId, Chunk]) -> int:
    """How many new bytes a request sends.

    Raises:
        SerializationError: too many for one request.
    """
    size = sum(len(value.root) + len(value.refs) for value in values)
    size += sum(len(chunk.body) for chunk in chunks.values())
    if size > MAX_REQUEST_BYTES:
        raise SerializationError(
            f"checkpoint {key.place} brings {size:,} bytes that are not stored "
            f"yet, and PostgreSQL takes at most {MAX_REQUEST_BYTES:,} at once: store such data elsewhere, and its "
            "address in the state"
        )
    return size
