"""Serialized values <-> value records and chunks. No I/O and no knowledge of LangGraph.

A conversation is the same list at every step with a little more at its end. Storing it whole each time costs the
square of its length, so a long value is taken apart::

    value record                 prefix (container headers) + checksum + ids of a few chunks
      ├── leaf                   a run of whole elements, cut where their content says so
      └── node ── leaf, leaf …   ids of leaves, cut where the ids say so; as many levels as it takes

Cuts depend on content alone, so an append or an edit changes the chunks around it and the nodes above them; all others
keep their ids and are stored already. Joining the leaves behind the prefix gives the serializer's bytes again, to the
bit.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, TypeAlias

import zstandard

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.msgpack import element_ends, outer_container
from checkpoint_base.records import CHUNK_ID_BYTES, Chunk, ChunkId, ValueRecord, split_ids

Compression: TypeAlias = Literal["zstd"] | None

INLINE_BYTES = 512
"""A value up to this size stays in its record: a chunk of its own would cost a row and save nothing."""

LEAF_BYTES = 1024
"""A leaf is cut at the first element whose checksum says so once it is this long, or after an element this long."""

LEAF_MAX_BYTES = 8 * LEAF_BYTES

PIECE_BYTES = 4096
"""Where there are no elements to cut between, pieces have a fixed size: an append to a text keeps those before it."""

SEALED_PIECE_BYTES = 256 * 1024
"""Encrypted bytes share nothing with what was stored before, so pieces only bound the size of one chunk."""

MAX_PIECE_BYTES = 1 << 30
"""No frame is decompressed that claims to hold more, so that damage cannot exhaust memory."""

SMALL_ELEMENT_BYTES = 16
"""Below this average size (lists of numbers) finding the elements costs more than serializing did: cut blindly."""

MAX_REFS = 24
"""A value record with more chunks than this gets a level of nodes."""

_FORMAT = 1
_INLINE, _COMPRESSED = 0x10, 0x20
_RAW_LEAF, _ZSTD_LEAF = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a value is cut: behind which prefix, and between the objects of a container or into pieces of one size."""

    prefix_bytes: int
    objects_each: int
    piece_bytes: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """One value taken apart: its record, every chunk it stands on, and what `Codec.encode` needs to do it again.

    ``cuts`` are the ends of the leaves in ``data``, with whether scanning can go on from there.
    """

    record: ValueRecord
    chunks: Mapping[ChunkId, Chunk]
    data: bytes = b""
    layout: _Layout | None = None
    cuts: Sequence[tuple[int, bool]] = ()
    leaves: Sequence[ChunkId] = ()


class _Zstd(threading.local):
    """Contexts that serve one thread at a time and cost about 20 microseconds to make: each thread keeps its own."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor()


_zstd = _Zstd()


class Codec:
    """Takes serialized values apart and joins them again.

    Any number of threads may use one codec at once.

    Args:
        compression: ``"zstd"`` compresses what is stored, each piece on its own, where that makes it smaller. Chat text
            takes about 30 % less space and three times as long to join (`docs/design.md`), so it is not the default.
    """

    def __init__(self, *, compression: Compression = None) -> None:
        self._compression = compression

    def encode(self, type_: str, data: bytes, *, previous: Encoding | None = None) -> Encoding:
        """Take one serialized value apart.

        Args:
            type_: the serializer's tag for ``data``. Containers are cut between elements when it says msgpack; a tag
                with a ``+`` means encrypted, as LangGraph's `EncryptedSerializer` writes it.
            data: the serializer's bytes.
            previous: an encoding of a similar value, usually the channel's last one. It only saves work: the leaves
                that both begin with are compared, not cut and hashed again.
        """
        if len(data) <= INLINE_BYTES:
            return Encoding(ValueRecord(self._root(type_, data, inline=data)), {})
        sealed = "+" in type_
        layout = _layout(type_, data)
        kept = _common_leaves(data, layout, previous)
        cuts = list(previous.cuts[:kept]) if previous else []
        leaves = list(previous.leaves[:kept]) if previous else []
        chunks = {leaf: previous.chunks[leaf] for leaf in leaves} if previous else {}
        start = cuts[-1][0] if cuts else layout.prefix_bytes
        for end, resumable in _cuts(data, start, layout):
            content = data[start:end]
            leaf = blake2b(content, digest_size=CHUNK_ID_BYTES).digest()
            if leaf not in chunks:
                chunks[leaf] = Chunk(leaf, self._leaf_body(content, sealed=sealed))
            cuts.append((end, resumable))
            leaves.append(leaf)
            start = end
        refs = leaves
        while len(refs) > MAX_REFS:
            nodes = [_node(group) for group in _grouped(refs)]
            chunks.update((node.id, node) for node in nodes)
            refs = [node.id for node in nodes]
        root = self._root(type_, data, prefix=data[: layout.prefix_bytes])
        return Encoding(ValueRecord(root, b"".join(refs)), chunks, data, layout, cuts, leaves)

    def encode_whole(self, type_: str, data: bytes, *, beside: bytes) -> bytes:
        """Frame a value that is kept in one piece whatever its size; `decode` takes it as a record's root.

        The checksum covers what is stored ``beside`` it, too.
        """
        return self._root(type_, data, inline=data, beside=beside)

    def decode(self, record: ValueRecord, chunks: Mapping[ChunkId, Chunk], *, beside: bytes = b"") -> tuple[str, bytes]:
        """Join a value: the serializer's tag and its bytes, exactly as they were given to `encode`.

        Raises:
            CorruptCheckpoint: a chunk is missing, or any bit of what was stored has changed.
        """
        try:
            flags, type_end = record.root[0], 6 + record.root[5]
            type_ = record.root[6:type_end].decode()
            tail = record.root[type_end:]
            if flags & 0x0F != _FORMAT:
                raise CorruptCheckpoint(f"value of unknown format {flags & 0x0F}")
            if flags & _INLINE:
                data = _decompressed(tail) if flags & _COMPRESSED else tail
            else:
                data = b"".join([tail, *_leaf_contents(split_ids(record.refs), chunks)])
        except (IndexError, UnicodeDecodeError, RecursionError, zstandard.ZstdError) as error:
            raise CorruptCheckpoint(f"a stored value cannot be read: {error}") from error
        if _checksum(flags, record.root[5:type_end], data, beside) != record.root[1:5]:
            raise CorruptCheckpoint("a stored value does not match its checksum")
        return type_, data

    def _root(
        self, type_: str, data: bytes, *, inline: bytes | None = None, prefix: bytes = b"", beside: bytes = b""
    ) -> bytes:
        tag = type_.encode()
        if len(tag) > 255:
            raise ValueError(f"a serializer's type tag may have 255 bytes, not {len(tag)}: {type_[:40]!r}…")
        named = bytes((len(tag),)) + tag
        flags, tail = _FORMAT, prefix
        if inline is not None:
            flags, tail = flags | _INLINE, inline
            if "+" not in type_ and (compressed := self._compressed(inline)):
                flags, tail = flags | _COMPRESSED, compressed
        return bytes((flags,)) + _checksum(flags, named, data, beside) + named + tail

    def _leaf_body(self, content: bytes, *, sealed: bool) -> bytes:
        if not sealed and (compressed := self._compressed(content)):
            return _ZSTD_LEAF + compressed
        return _RAW_LEAF + content

    def _compressed(self, data: bytes) -> bytes | None:
        if self._compression is None or len(data) < 128:
            return None
        compressed = _zstd.compressor.compress(data)
        return compressed if len(compressed) < len(data) else None


def _checksum(flags: int, named: bytes, data: bytes, beside: bytes) -> bytes:
    return zlib.crc32(data, zlib.crc32(named + beside, flags)).to_bytes(4, "big")


def _layout(type_: str, data: bytes) -> _Layout:
    if "+" in type_:
        return _Layout(0, 0, SEALED_PIECE_BYTES)
    container = outer_container(data) if type_.startswith("msgpack") else None
    if container is None:
        return _Layout(0, 0, _piece_bytes(len(data)))
    body_bytes = len(data) - container.prefix_bytes
    if body_bytes < container.elements * SMALL_ELEMENT_BYTES:
        return _Layout(container.prefix_bytes, 0, _piece_bytes(body_bytes))
    return _Layout(container.prefix_bytes, container.objects_each, 0)


def _common_leaves(data: bytes, layout: _Layout, previous: Encoding | None) -> int:
    """How many leaves of ``previous`` this value begins with. The last one is always cut anew, since it may grow."""
    if previous is None or previous.layout != layout:
        return 0
    old, start = previous.data, layout.prefix_bytes
    kept = len(previous.cuts) - 1
    if not data.startswith(old[start : previous.cuts[kept - 1][0] if kept else start], start):
        kept = 0
        for end, _ in previous.cuts[:-1]:
            if old[start:end] != data[start:end]:
                break
            start = end
            kept += 1
    while kept and not previous.cuts[kept - 1][1]:
        kept -= 1
    return kept


def _cuts(data: bytes, start: int, layout: _Layout) -> Iterator[tuple[int, bool]]:
    """Yield the end of each leaf, and whether cutting may go on from there as if it had begun at the start."""
    if not layout.objects_each:
        yield from ((end, True) for end in _pieces(start, len(data), layout.piece_bytes))
        return
    began = at = start
    for end in element_ends(data, start, layout.objects_each):
        if end - began >= LEAF_BYTES and (
            end - at >= LEAF_BYTES or end - began >= LEAF_MAX_BYTES or zlib.crc32(data[at:end]) & 3 == 0
        ):
            yield from _leaf_pieces(began, end)
            began = end
        at = end
    yield from _leaf_pieces(began, len(data))


def _leaf_pieces(start: int, end: int) -> Iterator[tuple[int, bool]]:
    """A leaf that one huge element made too long is cut again; only its end lies between elements."""
    return ((at, at == end) for at in _pieces(start, end, max(LEAF_MAX_BYTES, _piece_bytes(end - start))))


def _piece_bytes(size: int) -> int:
    """The size of fixed pieces: about 100 to 1000 of them, whatever the value's size."""
    piece = PIECE_BYTES
    while size > 256 * piece:
        piece *= 4
    return piece


def _pieces(start: int, end: int, size: int) -> Iterator[int]:
    yield from range(start + size, end, size)
    if start < end:
        yield end


def _decompressed(frame: bytes) -> bytes:
    if zstandard.get_frame_parameters(frame).content_size > MAX_PIECE_BYTES:
        raise CorruptCheckpoint("a stored value claims an impossible size")
    return _zstd.decompressor.decompress(frame)


def _grouped(ids: Sequence[ChunkId]) -> Iterator[Sequence[ChunkId]]:
    """Cut a list of ids where an id says so: 4 to 64 together, about 20 on average."""
    began = 0
    for at, id_ in enumerate(ids, 1):
        if at - began >= 4 and (id_[-1] & 0x0F == 0 or at - began == 64):
            yield ids[began:at]
            began = at
    if began < len(ids):
        yield ids[began:]


def _node(ids: Iterable[ChunkId]) -> Chunk:
    body = b"".join(ids)
    # The digest is personalised, so that a leaf whose content looks like a node is still another chunk.
    return Chunk(blake2b(body, digest_size=CHUNK_ID_BYTES, person=b"node").digest(), body, node=True)


def _leaf_contents(ids: Iterable[ChunkId], chunks: Mapping[ChunkId, Chunk]) -> list[bytes]:
    contents: list[bytes] = []
    for id_ in ids:
        chunk = chunks.get(id_)
        if chunk is None:
            raise CorruptCheckpoint(f"chunk {id_.hex()} is missing from the store")
        if chunk.node:
            contents += _leaf_contents(chunk.children, chunks)
        elif chunk.body.startswith(_RAW_LEAF):
            contents.append(chunk.body[1:])
        elif chunk.body.startswith(_ZSTD_LEAF):
            contents.append(_decompressed(chunk.body[1:]))
        else:
            raise CorruptCheckpoint(f"chunk {id_.hex()} is damaged")
    return contents
