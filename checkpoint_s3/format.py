"""The bytes of objects: a frame with checksums around a small head, which can be read alone, and a tail.

`docs/s3.md` describes them for readers in other languages.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import ormsgpack

from checkpoint_base.errors import SchemaMismatch, damage
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import ChannelVersion, CheckpointRecord, Chunk, ChunkId, ValueRecord, WriteRecord

MAGIC = b"CKS3"
FORMAT = 1

FRAME_BYTES = 16
HEAD_BYTES = 8192
"""How much of an object is fetched when only its head is wanted. Nearly all heads are smaller."""

CHECKPOINT, WRITES, LEDGER = b"c", b"w", b"l"
DIGEST_BYTES = 10


@dataclass(frozen=True, slots=True)
class Items:
    """Values and chunks that an object holds."""

    values: Mapping[ChannelVersion, ValueRecord]
    chunks: Mapping[ChunkId, Chunk]

    @property
    def size(self) -> int:
        return sum(map(value_size, self.values.values())) + sum(map(chunk_size, self.chunks.values()))


def value_size(value: ValueRecord) -> int:
    return len(value.root) + len(value.refs) + 64


def chunk_size(chunk: Chunk) -> int:
    return len(chunk.body) + 24


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint's record, and which of its channels have a value."""

    record: CheckpointRecord
    stored: frozenset[ChannelVersion]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What readers of a thread must not see although it is stored, and times that its objects no longer tell.

    ``hidden`` has batches of digests, each with the time when it was hidden. ``retired`` has the digests of retired
    checkpoints' objects, with the channels whose writes stay. ``veiled`` has, by the token of each copy in progress,
    the time when it began, and the digests of the names that it uses.

    What is removed is identified by a `name_digest` or, if it is writes, by their `writes_digest`, because later ones
    may have the same name. A copy veils writes, too, by their names alone, because it does so before it stores them.
    """

    nonce: bytes = b""
    created_at: int | None = None
    updated_at: int = 0
    hidden: tuple[tuple[int, frozenset[bytes]], ...] = ()
    retired: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    veiled: Mapping[bytes, tuple[int, frozenset[bytes]]] = field(default_factory=dict)

    @property
    def removed(self) -> frozenset[bytes]:
        return frozenset[bytes]().union(*(digests for _, digests in self.hidden))

    @property
    def veiled_names(self) -> frozenset[bytes]:
        """The digests of all names that are veiled."""
        return frozenset[bytes]().union(*(digests for _, digests in self.veiled.values()))

    @property
    def unseen(self) -> frozenset[bytes]:
        return self.removed | self.veiled_names

    def unveiled(self, digests: frozenset[bytes]) -> Ledger:
        """The ledger that veils the names with these digests no longer."""
        return replace(self, veiled={token: (since, batch - digests) for token, (since, batch) in self.veiled.items()})


def name_digest(name: str) -> bytes:
    """Identify whatever is stored under a name: for a checkpoint's object, only that one, ever."""
    return blake2b(name.encode(), digest_size=DIGEST_BYTES).digest()


def writes_digest(name: str, etag: str) -> bytes:
    """Identify an object of writes among all that ever have the same name."""
    return blake2b(f"{name}\0{etag}".encode(), digest_size=DIGEST_BYTES).digest()


def new_nonce() -> bytes:
    """Return random bytes that tell a ledger, an object of writes or a copy from all others."""
    return os.urandom(8)


# Writing


def checkpoint_object(head: Head, items: Items) -> bytes:
    record = head.record
    parts = [
        record.key.checkpoint_ns,
        record.key.checkpoint_id,
        record.parent_id,
        record.run_id,
        record.caller_id,
        record.written_at,
        record.terms,
        record.open_channels,
        [(channel, version, (channel, version) in head.stored) for channel, version in record.channels],
        record.header,
    ]
    values = [(channel, version, value.root, value.refs) for (channel, version), value in items.values.items()]
    return _framed(CHECKPOINT, parts, [values, _packed_chunks(items.chunks.values())])


def writes_object(key: CheckpointKey, writes: Sequence[WriteRecord], chunks: Iterable[Chunk]) -> bytes:
    """Return an object of writes. No two are the same, so that no two have the same ETag."""
    latest = max(write.written_at for write in writes)
    rows = [
        (
            write.task_id,
            write.idx,
            write.channel,
            write.task_path,
            write.value.root,
            write.value.refs,
            write.questions,
            write.settles,
            write.written_at,
        )
        for write in writes
    ]
    head = [key.checkpoint_ns, key.checkpoint_id, latest, new_nonce()]
    return _framed(WRITES, head, [rows, _packed_chunks(chunks)])


def ledger_object(ledger: Ledger) -> bytes:
    head = [
        ledger.nonce,
        ledger.created_at,
        ledger.updated_at,
        [(since, b"".join(sorted(digests))) for since, digests in ledger.hidden],
        [(digest, sorted(channels)) for digest, channels in sorted(ledger.retired.items())],
        [(token, since, b"".join(sorted(digests))) for token, (since, digests) in sorted(ledger.veiled.items())],
    ]
    return _framed(LEDGER, head, None)


def _packed_chunks(chunks: Iterable[Chunk]) -> list[Any]:
    return [(chunk.id, chunk.node, chunk.body) for chunk in chunks]


def _framed(kind: bytes, head: Any, tail: Any) -> bytes:
    packed, rest = ormsgpack.packb(head), ormsgpack.packb(tail)
    frame = bytes((FORMAT,)) + kind + bytes(2) + len(packed).to_bytes(4, "big")
    checked = zlib.crc32(packed, zlib.crc32(frame)).to_bytes(4, "big")
    return b"".join((MAGIC, frame, checked, packed, zlib.crc32(rest).to_bytes(4, "big"), rest))


# Reading


def claimed_end(body: bytes) -> int:
    """Return where the head of an object ends if it is undamaged; 0 if this is not the beginning of an object."""
    return FRAME_BYTES + int.from_bytes(body[8:12], "big") if len(body) >= FRAME_BYTES and body[:4] == MAGIC else 0


def _head_end(body: bytes, where: str) -> int:
    """Return where the head of an object ends, after checking that it is undamaged and of our format.

    A later format keeps these 16 bytes, so that what it stores is not taken for damaged.
    """
    end = claimed_end(body)
    if not end:
        raise damage(f"{where} is not an object of a checkpoint store, or is damaged")
    if zlib.crc32(body[FRAME_BYTES:end], zlib.crc32(body[4:12])).to_bytes(4, "big") != body[12:FRAME_BYTES]:
        raise damage(f"{where} does not match its checksum")
    if body[4] != FORMAT:
        raise SchemaMismatch(f"{where} has format {body[4]}, this version knows {FORMAT}: upgrade checkpoint-backends")
    return end


def read_head(body: bytes, key: CheckpointKey) -> Head:
    """Read the head of a checkpoint's object. ``key`` is what its name tells of the checkpoint's."""
    where = f"checkpoint {key.place}"
    parts = _head(body, CHECKPOINT, where)
    with _reading(where):
        namespace, id_, parent_id, run_id, caller_id, written_at, terms, opened, channels, header = parts
        record = CheckpointRecord(
            key=CheckpointKey(key.thread_id, namespace, id_),
            parent_id=parent_id,
            header=header,
            channels=tuple((channel, version) for channel, version, _ in channels),
            open_channels=tuple(opened),
            terms=terms,
            run_id=run_id,
            caller_id=caller_id,
            written_at=written_at,
        )
        stored = frozenset((channel, version) for channel, version, is_stored in channels if is_stored)
    if id_ != key.checkpoint_id:
        raise damage(f"{where} holds another checkpoint, {id_!r}, as if somebody had moved it")
    return Head(record, stored)


def read_items(body: bytes, where: str) -> Items:
    with _reading(where):
        values, chunks = _tail(body, where)
        return Items(
            {(channel, version): ValueRecord(root, refs) for channel, version, root, refs in values},
            _chunks(chunks),
        )


def read_writes(body: bytes, where: str) -> tuple[Sequence[WriteRecord], Mapping[ChunkId, Chunk]]:
    _head(body, WRITES, where)
    with _reading(where):
        rows, chunks = _tail(body, where)
        writes = [
            WriteRecord(task_id, idx, channel, path, ValueRecord(root, refs), questions, settles, written_at)
            for task_id, idx, channel, path, root, refs, questions, settles, written_at in rows
        ]
        return writes, _chunks(chunks)


def read_writes_place(body: bytes, where: str) -> tuple[str, str, int]:
    """Return the namespace, checkpoint id and latest time of writing of an object of writes. Its head is enough."""
    with _reading(where):
        checkpoint_ns, checkpoint_id, written_at, _ = _head(body, WRITES, where)
    return checkpoint_ns, checkpoint_id, written_at


def read_ledger(body: bytes, where: str) -> Ledger:
    with _reading(where):
        nonce, created_at, updated_at, hidden, retired, veiled = _head(body, LEDGER, where)
        return Ledger(
            nonce,
            created_at,
            updated_at,
            tuple((since, _digests(joined)) for since, joined in hidden),
            {digest: frozenset(channels) for digest, channels in retired},
            {token: (since, _digests(joined)) for token, since, joined in veiled},
        )


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Raise `CorruptCheckpoint` if parts are not what they should be although their checksum is right."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise damage(f"{where} is damaged ({error})") from error


def _chunks(rows: Iterable[Any]) -> dict[ChunkId, Chunk]:
    return {id_: Chunk(id_, body, node) for id_, node, body in rows}


def _digests(joined: bytes) -> frozenset[bytes]:
    return frozenset(joined[at : at + DIGEST_BYTES] for at in range(0, len(joined), DIGEST_BYTES))


def _head(body: bytes, kind: bytes, where: str) -> Any:
    end = _head_end(body, where)
    if body[5:6] != kind:
        raise damage(f"{where} holds something else")
    return _unpacked(body[FRAME_BYTES:end], where)


def _tail(body: bytes, where: str) -> Any:
    end = _head_end(body, where)
    tail = body[end + 4 :]
    if zlib.crc32(tail).to_bytes(4, "big") != body[end : end + 4]:
        raise damage(f"{where} does not match its checksum")
    return _unpacked(tail, where)


def _unpacked(packed: bytes, where: str) -> Any:
    try:
        return ormsgpack.unpackb(packed)
    except ormsgpack.MsgpackDecodeError as error:
        raise damage(f"{where} cannot be read ({error})") from error
