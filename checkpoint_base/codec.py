"""Serialized values <-> value records and chunks. No I/O and no knowledge of LangGraph.

At every step a conversation is the same list with a little more at its end. Storing all of it at each step costs the
square of its length, so a long value is taken apart::

    value record                 prefix (container headers) + checksum + ids of a few chunks
      ├── pack                   a run of whole elements, cut where their content says so
      ├── leaf                   a few elements behind the last pack: the next pack, as far as it has come
      └── node ── pack, pack …   ids of packs and leaves, cut where the ids say so; as many levels as it takes

Cuts depend on content alone, so an append or an edit changes only the chunks around it and the nodes above them. All
others keep their ids, and are stored already. Joining prefix, packs and leaves gives exactly the serializer's bytes.

Appends are small, but a value is read fastest in few pieces. So the end of a value is kept in leaves, which are stored
once more as a single pack when there are enough of them.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple, TypeAlias

import zstandard

from checkpoint_base.errors import CorruptCheckpoint, SchemaMismatch
from checkpoint_base.msgpack import element_ends, outer_container
from checkpoint_base.records import CHUNK_ID_BYTES, Chunk, ChunkId, ValueRecord, split_ids

Compression: TypeAlias = Literal["zstd"] | None

INLINE_BYTES = 512
"""A value up to this size stays in its record: a chunk of its own would cost a row and save nothing."""

LEAF_BYTES = 1024
"""A leaf of this length ends with the next element whose checksum says so. An element of this length ends its leaf."""

LEAF_MAX_BYTES = 8 * LEAF_BYTES

PACK_BYTES = 8 * 1024
"""About the size of a pack: it ends with a leaf whose last element says so, which is likelier for a longer leaf."""

PACK_MAX_BYTES = 3 * PACK_BYTES

PIECE_BYTES = 4096
"""Without elements to cut between, pieces have a fixed size: what is appended to a text leaves the first ones alone."""

SEALED_PIECE_BYTES = 256 * 1024
"""Encrypted bytes share nothing with what was stored before, so pieces only bound the size of one chunk."""

MAX_PIECE_BYTES = 1 << 30
"""A frame that claims to hold more is not decompressed, so that damage cannot exhaust memory."""

MAX_VALUE_BYTES = 1 << 32
"""A longer value is neither stored nor joined. A few chunks that name each other many times could claim any length."""

SMALL_ELEMENT_BYTES = 16
"""Below this average size (lists of numbers) finding the elements costs more than serializing did: cut blindly."""

MAX_REFS = 24
"""A value record with more chunks than this gets a level of nodes."""

_LEAST_BYTES = 256
"""Less than the leaves of a value have on average: all but a few have `LEAF_BYTES` or more."""

_IMPOSSIBLE = "a stored value claims an impossible size"

# A later format keeps flags, checksum and tag in their places, and how the checksum is computed. Otherwise this version
# takes its values for damaged ones, and advises to delete them.
_FORMAT = 1
_INLINE, _COMPRESSED = 0x10, 0x20
_RAW, _ZSTD = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a value is cut behind its prefix: between the objects of a container, or into pieces of one size."""

    prefix_bytes: int
    objects_each: int
    piece_bytes: int


class _Pack(NamedTuple):
    """A run of elements that ends at ``end``, whatever is appended behind it.

    It is one chunk, or several if it is very long. ``checksum`` covers everything between the prefix and ``end``.
    """

    end: int
    chunks: Sequence[Chunk]
    checksum: int


@dataclass(frozen=True, slots=True)
class Encoding:
    """One value taken apart: its record, all of its chunks, and what speeds up encoding the next one, if any."""

    record: ValueRecord
    chunks: Mapping[ChunkId, Chunk]
    data: bytes = b""
    layout: _Layout | None = None
    packs: Sequence[_Pack] = ()


class _Zstd(threading.local):
    """Contexts, each for one thread at a time. Making one takes about 20 microseconds, so each thread keeps its own."""

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

    def encode(self, type_: str, data: bytes, *, previous: Encoding | None = None, associated: bytes = b"") -> Encoding:
        """Take one serialized value apart.

        Args:
            type_: the serializer's tag for ``data``. Containers are cut between elements when it says msgpack; a tag
                with a ``+`` means encrypted, as LangGraph's `EncryptedSerializer` writes it.
            data: the serializer's bytes.
            previous: an encoding of a similar value, usually the channel's last one. It only saves work: the packs
                that both begin with are compared, not cut and hashed again.
            associated: bytes that are stored elsewhere and that the checksum covers, too; `decode` needs them again.

        Raises:
            ValueError: the value is longer than `MAX_VALUE_BYTES`.
        """
        if len(data) > MAX_VALUE_BYTES:
            raise ValueError(f"{len(data)} bytes are more than {MAX_VALUE_BYTES}: keep what the value holds elsewhere")
        if len(data) <= INLINE_BYTES:
            return Encoding(ValueRecord(self.encode_whole(type_, data, associated=associated)), {})
        sealed = "+" in type_
        layout = _layout(type_, data)
        packs = _common_packs(data, layout, previous)
        chunks = {chunk.id: chunk for pack in packs for chunk in pack.chunks}
        refs = [chunk.id for pack in packs for chunk in pack.chunks]
        start = packs[-1].end if packs else layout.prefix_bytes
        checksum = packs[-1].checksum if packs else 0
        for ends, is_pack in _runs(data, start, layout):
            run = []
            for end in ends:
                content = data[start:end]
                run.append(self._chunk(content, sealed=sealed))
                checksum = zlib.crc32(content, checksum)
                start = end
            chunks.update((chunk.id, chunk) for chunk in run)
            refs += [chunk.id for chunk in run]
            if is_pack:
                packs.append(_Pack(start, run, checksum))
        while len(refs) > MAX_REFS:
            nodes = [_node(group) for group in _grouped(refs)]
            chunks.update((node.id, node) for node in nodes)
            refs = [node.id for node in nodes]
        prefix = data[: layout.prefix_bytes]
        named = _named(type_)
        root = _root(_FORMAT, named, _checksum(_FORMAT, named, prefix, associated, checksum), prefix)
        record = ValueRecord(root, b"".join(refs))
        return Encoding(record, chunks) if sealed else Encoding(record, chunks, data, layout, packs)

    def encode_whole(self, type_: str, data: bytes, *, associated: bytes) -> bytes:
        """Frame a value that is kept in one piece whatever its size; `decode` takes it as a record's root.

        ``associated`` is as in `encode`.
        """
        compressed = None if "+" in type_ else self._compressed(data)
        flags, named = _FORMAT | _INLINE | (_COMPRESSED if compressed else 0), _named(type_)
        return _root(flags, named, _checksum(flags, named, data, associated), compressed or data)

    def decode(
        self, record: ValueRecord, chunks: Mapping[ChunkId, Chunk], *, associated: bytes = b""
    ) -> tuple[str, bytes]:
        """Join a value: the serializer's tag and its bytes, exactly as they were given to `encode`.

        Raises:
            CorruptCheckpoint: a chunk is missing, or any bit of what was stored has changed.
            SchemaMismatch: the value has a later format.
        """
        try:
            flags, type_end = record.root[0], 6 + record.root[5]
            type_ = record.root[6:type_end].decode()
            tail = record.root[type_end:]
            contents = [] if flags & _INLINE else _Leaves(chunks).contents(split_ids(record.refs))
            head = _decompressed(tail) if flags & _COMPRESSED else tail
        except IndexError as error:
            raise CorruptCheckpoint("a stored value cannot be read: it is empty or cut off") from error
        except (UnicodeDecodeError, RecursionError, zstandard.ZstdError) as error:
            raise CorruptCheckpoint(f"a stored value cannot be read: {error}") from error
        if sum(map(len, contents)) > MAX_VALUE_BYTES:
            raise CorruptCheckpoint(_IMPOSSIBLE)
        checksum = 0
        for content in contents:
            checksum = zlib.crc32(content, checksum)
        if _checksum(flags, record.root[5:type_end], head, associated, checksum) != record.root[1:5]:
            raise CorruptCheckpoint("a stored value does not match its checksum")
        if flags & 0x0F != _FORMAT:
            raise SchemaMismatch(
                f"a stored value has format {flags & 0x0F}, this version knows {_FORMAT}: upgrade checkpoint-backends"
            )
        return type_, b"".join([head, *contents])

    def _chunk(self, content: bytes, *, sealed: bool) -> Chunk:
        id_ = blake2b(content, digest_size=CHUNK_ID_BYTES).digest()
        if not sealed and (compressed := self._compressed(content)):
            return Chunk(id_, _ZSTD + compressed)
        return Chunk(id_, _RAW + content)

    def _compressed(self, data: bytes) -> bytes | None:
        if self._compression is None or not 128 <= len(data) <= MAX_PIECE_BYTES:
            return None
        compressed = _zstd.compressor.compress(data)
        return compressed if len(compressed) < len(data) else None


def _root(flags: int, named: bytes, checksum: bytes, tail: bytes) -> bytes:
    return bytes((flags,)) + checksum + named + tail


def _named(type_: str) -> bytes:
    tag = type_.encode()
    if len(tag) > 255:
        raise ValueError(f"a serializer's type tag has at most 255 bytes, not {len(tag)}: {type_[:40]!r}…")
    return bytes((len(tag),)) + tag


def _checksum(flags: int, named: bytes, head: bytes, associated: bytes, body_checksum: int = 0) -> bytes:
    """The checksum of a value, of which an append to its body recomputes only this last part."""
    return zlib.crc32(head, zlib.crc32(named + associated, body_checksum ^ flags)).to_bytes(4, "big")


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


def _common_packs(data: bytes, layout: _Layout, previous: Encoding | None) -> list[_Pack]:
    """The packs that this value and ``previous`` both begin with."""
    if previous is None or previous.layout != layout or not previous.packs:
        return []
    old, start = previous.data, layout.prefix_bytes
    if data.startswith(memoryview(old)[start : previous.packs[-1].end], start):
        return list(previous.packs)
    packs = []
    for pack in previous.packs:
        if old[start : pack.end] != data[start : pack.end]:
            break
        packs.append(pack)
        start = pack.end
    return packs


def _runs(data: bytes, start: int, layout: _Layout) -> Iterator[tuple[Iterable[int], bool]]:
    """Yield the ends of the chunks of each run, and whether the run is a pack. ``start`` is the end of a pack."""
    if not layout.objects_each:
        for end in _pieces(start, len(data), layout.piece_bytes):
            yield (end,), end - start == layout.piece_bytes
            start = end
        return
    leaves: list[int] = []
    leaf = at = start
    for end in element_ends(data, start, layout.objects_each):
        if end - leaf >= LEAF_BYTES:
            checksum = zlib.crc32(data[at:end])
            if end - at >= LEAF_BYTES or end - leaf >= LEAF_MAX_BYTES or checksum & 3 == 0:
                if (checksum >> 2) % PACK_BYTES < end - leaf or end - start >= PACK_MAX_BYTES:
                    yield _chunk_ends(start, end), True
                    leaves = []
                    start = end
                else:
                    leaves.append(end)
                leaf = end
        at = end
    yield (*leaves, *_chunk_ends(leaf, len(data))), False


def _chunk_ends(start: int, end: int) -> Iterable[int]:
    """One chunk, unless a huge element makes it too long."""
    if end - start <= PACK_MAX_BYTES:
        return (end,) if start < end else ()
    return _pieces(start, end, max(PACK_BYTES, _piece_bytes(end - start)))


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
        raise CorruptCheckpoint(_IMPOSSIBLE)
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


class _Leaves:
    """Finds what the leaves of a value hold, each chunk once, and stops where a value would be longer than any is."""

    def __init__(self, chunks: Mapping[ChunkId, Chunk]) -> None:
        self._chunks = chunks
        self._below: dict[ChunkId, list[bytes]] = {}
        self._held = 0

    def contents(self, ids: Iterable[ChunkId]) -> list[bytes]:
        found: list[bytes] = []
        for id_ in ids:
            if id_ not in self._below:
                self._below[id_] = self._contents_below(id_)
            found += self._below[id_]
            if len(found) > MAX_VALUE_BYTES // _LEAST_BYTES:
                raise CorruptCheckpoint(_IMPOSSIBLE)
        return found

    def _contents_below(self, id_: ChunkId) -> list[bytes]:
        chunk = self._chunks.get(id_)
        if chunk is None:
            raise CorruptCheckpoint(f"chunk {id_.hex()} is missing from the store")
        if chunk.node:
            return self.contents(chunk.children)
        if chunk.body.startswith(_RAW):
            content = chunk.body[1:]
        elif chunk.body.startswith(_ZSTD):
            content = _decompressed(chunk.body[1:])
        else:
            raise CorruptCheckpoint(
                f"chunk {id_.hex()} is damaged, unless a later version has stored it: then upgrade checkpoint-backends"
            )
        self._held += len(content)
        if self._held > MAX_VALUE_BYTES:
            raise CorruptCheckpoint(_IMPOSSIBLE)
        return [content]
