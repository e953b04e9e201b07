"""Records as bytes that Lua can take apart; `lua/records.lua` and `lua/thread.lua` describe them."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import CheckpointRecord, Chunk, ChunkId, ThreadRecord, ValueRecord, WriteRecord

LARGE_LEAF_BYTES = 32 * 1024
"""A longer leaf is stored beside its entry, so that reading dozens of entries at once never takes long."""

TIME_DIGITS = 16

_FAR, _LAST = 2**53, 2**60 - 1
_FAR_TIME = re.compile(rb"f([0-9a-f]{15})")

_LENGTH = struct.Struct(">I")
_TIME = struct.Struct(">Q")
_WRITE = struct.Struct(">IBQi")

Field: TypeAlias = tuple[bytes, bytes]
"""A field of a thread and its content."""


def pack_checkpoint(record: CheckpointRecord) -> bytes:
    return b"".join(
        (
            b"v",
            _sized((record.parent_id or "").encode()),
            _sized(b"" if record.run_id is None else b"+" + record.run_id.encode()),
            _sized((record.caller_id or "").encode()),
            _sized("".join([f"{channel}\0{version}\0" for channel, version in record.channels]).encode()),
            _sized("".join([f"{channel}\0" for channel in record.open_channels]).encode()),
            _sized(record.terms),
            _TIME.pack(record.written_at),
            record.header,
        )
    )


def unpack_checkpoint(key: CheckpointKey, packed: bytes) -> CheckpointRecord:
    """Undo `pack_checkpoint`.

    Raises:
        CorruptCheckpoint: these are not the bytes of a checkpoint.
    """
    try:
        (parent, run, caller, channels, opened, terms), at = _parts(packed, 1, 6)
        (written_at,) = _TIME.unpack_from(packed, at)
        words = channels.decode().split("\0")
        return CheckpointRecord(
            key=key,
            parent_id=parent.decode() or None,
            header=packed[at + _TIME.size :],
            channels=tuple(zip(words[:-1:2], words[1::2], strict=True)),
            open_channels=tuple(opened.decode().split("\0")[:-1]),
            terms=terms,
            run_id=run[1:].decode() if run else None,
            caller_id=caller.decode() or None,
            written_at=written_at,
        )
    except (struct.error, ValueError) as error:
        raise CorruptCheckpoint(f"the record of {key.place} is damaged: {error}") from error


def pack_value(value: ValueRecord) -> bytes:
    return _LENGTH.pack(len(value.root)) + value.root + value.refs


def unpack_value(packed: bytes) -> ValueRecord:
    """Undo `pack_value`.

    Raises:
        CorruptCheckpoint: these are not the bytes of a value.
    """
    try:
        (root,), at = _parts(packed, 0, 1)
    except struct.error as error:
        raise CorruptCheckpoint(f"a stored value is damaged: {error}") from error
    return ValueRecord(root, packed[at:])


def pack_write(write: WriteRecord) -> bytes:
    return b"".join(
        (
            _WRITE.pack(write.questions, write.settles, write.written_at, write.idx),
            _sized(write.task_id.encode()),
            _sized(write.channel.encode()),
            _sized(write.task_path.encode()),
            pack_value(write.value),
        )
    )


def unpack_write(packed: bytes | None) -> WriteRecord:
    """Undo `pack_write`.

    Raises:
        CorruptCheckpoint: these are not the bytes of a write.
    """
    if packed is None:
        raise CorruptCheckpoint("a stored write is gone")
    try:
        questions, settles, written_at, idx = _WRITE.unpack_from(packed)
        (task_id, channel, task_path, root), at = _parts(packed, _WRITE.size, 4)
        return WriteRecord(
            task_id=task_id.decode(),
            idx=idx,
            channel=channel.decode(),
            task_path=task_path.decode(),
            value=ValueRecord(root, packed[at:]),
            questions=questions,
            settles=bool(settles),
            written_at=written_at,
        )
    except (struct.error, ValueError) as error:
        raise CorruptCheckpoint(f"a stored write is damaged: {error}") from error


def chunk_entries(chunks: Mapping[ChunkId, Chunk]) -> list[Field]:
    """Return the fields that hold these chunks."""
    entries: list[Field] = []
    for id_, body, node in chunks.values():
        if node:
            entries.append((b"#" + id_, b"n" + body))
        elif len(body) <= LARGE_LEAF_BYTES:
            entries.append((b"#" + id_, b"l" + body))
        else:
            # The entry first: a staged body is dropped by its entry, so alone it would stay for ever.
            entries += ((b"#" + id_, b"L%d" % len(body)), (b"+" + id_, body))
    return entries


class FoundChunks:
    """Chunks read from a thread: whole ``chunks``, and lengths of ``large`` leaves whose bodies are not read yet.

    A damaged one has no body, so that whoever needs it reports it.
    """

    def __init__(self) -> None:
        self.chunks: dict[ChunkId, Chunk] = {}
        self.large: dict[ChunkId, int] = {}

    def knows(self, id_: ChunkId) -> bool:
        return id_ in self.chunks or id_ in self.large

    def add(self, id_: ChunkId, entry: bytes) -> None:
        kind, body = entry[:1], entry[1:]
        if kind == b"L" and body.isdigit():
            if id_ not in self.chunks:
                self.large[id_] = int(body)
        else:
            self.chunks[id_] = Chunk(id_, body if kind in (b"l", b"n") else b"", kind == b"n")

    def add_flat(self, flat: Sequence[bytes]) -> None:
        """Add what `walk` in `lua/contents.lua` has collected: id, entry, id, entry, …"""
        for at in range(0, len(flat), 2):
            self.add(flat[at], flat[at + 1])


def unpack_thread(thread_id: str, updated: bytes, meta: bytes, latest: CheckpointRecord | None) -> ThreadRecord:
    """Read a thread from its meta, which `lua/index.lua` describes, and the time of its last change in the index.

    A damaged meta gives a time that is listed with an error.
    """
    waiting = meta[3 * TIME_DIGITS :]
    try:
        # `written questions,task NUL idx NUL …`: every other part begins with the two numbers of a waiting task.
        asked = [int(part.partition(b",")[0].split()[1]) for part in waiting.split(b"\0")[:-1:2]]
        created_at = unpack_time(meta[:TIME_DIGITS])
    except (ValueError, IndexError):
        asked, created_at = [], unpack_time(b"")
    return ThreadRecord(thread_id, created_at, unpack_time(updated), latest, sum(asked))


def unpack_time(digits: bytes) -> int:
    """Return a time. A damaged one becomes -1, so that what it belongs to is listed all the same, with an error."""
    if found := _FAR_TIME.fullmatch(digits):
        return int(found[1], 16)
    return int(digits) if digits.isdigit() else -1


def digits(time: int) -> str:
    """Return a time as `lua/index.lua` describes it. One that does not fit, as in a forged cursor, is cut off."""
    if time < _FAR:
        return f"{max(time, 0):0{TIME_DIGITS}d}"
    return f"f{min(time, _LAST):0{TIME_DIGITS - 1}x}"


def _sized(part: bytes) -> bytes:
    return _LENGTH.pack(len(part)) + part


def _parts(packed: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    parts = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(packed, at)
        end = at + _LENGTH.size + length
        if end > len(packed):
            raise struct.error(f"it ends {end - len(packed)} bytes too early")
        parts.append(packed[at + _LENGTH.size : end])
        at = end
    return parts, at
