"""The codec: exact bytes back, and little that is new when a value changes a little."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import ormsgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_base import CorruptCheckpoint, SchemaMismatch
from checkpoint_base import codec as codec_module
from checkpoint_base import msgpack as msgpack_module
from checkpoint_base.codec import INLINE_BYTES, MAX_REFS, PACK_BYTES, PACK_MAX_BYTES, PIECE_BYTES, Codec, Encoding
from checkpoint_base.msgpack import array_header, element_ends, extension, outer_container
from checkpoint_base.records import Chunk, ValueRecord

TAG = "msgpack"

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


def texts(*sizes: int) -> list[str]:
    return [f"{number}:".ljust(size, chr(97 + number % 26)) for number, size in enumerate(sizes)]


def new_bytes(before: Encoding, after: Encoding) -> int:
    return sum(len(chunk.body) for id_, chunk in after.chunks.items() if id_ not in before.chunks)


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        os.urandom(INLINE_BYTES),
        os.urandom(INLINE_BYTES + 1),
        ormsgpack.packb(texts(*[1000] * 400)),
        ormsgpack.packb(texts(*[20] * 5000)),
        ormsgpack.packb(list(range(100_000))),
        ormsgpack.packb({f"file {n}": "x" * n for n in range(300)}),
        ormsgpack.packb(texts(10, 2_000_000, 10)),
        ormsgpack.packb("x" * 3_000_000),
        ormsgpack.packb(ormsgpack.Ext(7, ormsgpack.packb(texts(*[1000] * 100)))),
    ],
    ids=len,
)
def test_bytes_come_back_exactly(data: bytes, compression: Any) -> None:
    codec = Codec(compression=compression)
    for tag in (TAG, "bytes", "msgpack+aes"):
        encoding = codec.encode(tag, data)
        assert codec.decode(encoding.record, encoding.chunks) == (tag, data)
        assert len(encoding.record.refs) <= 16 * MAX_REFS


@given(value=plain, tag=st.sampled_from([TAG, "json", "x" * 255]))
def test_any_value_and_tag_come_back(value: Any, tag: str) -> None:
    data = ormsgpack.packb([value, "padding " * 100])
    encoding = Codec().encode(tag, data)
    assert Codec().decode(encoding.record, encoding.chunks) == (tag, data)


@given(content=st.binary(max_size=4000))
def test_what_only_claims_to_be_msgpack_comes_back_too(content: bytes) -> None:
    encoding = Codec().encode(TAG, content)
    assert Codec().decode(encoding.record, encoding.chunks) == (TAG, content)


@given(values=st.lists(plain, min_size=1), window=st.sampled_from([1, 7, 1 << 20]))
def test_element_ends_are_the_ends_of_the_packed_elements(values: list[Any], window: int) -> None:
    data = ormsgpack.packb(values)
    container = outer_container(data)
    assert container is not None
    assert container.elements == len(values)
    packed = [len(ormsgpack.packb(value)) for value in values]
    expected = list(accumulate(packed, initial=container.prefix_bytes))[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(msgpack_module, "_WINDOW_BYTES", window)
        assert list(element_ends(data, container.prefix_bytes, 1)) == expected


def test_elements_behind_one_that_is_nested_too_deeply_are_not_found_and_come_back_all_the_same() -> None:
    deep = b"\x91" * 2000 + b"\xc0"
    data = array_header(42) + b"\x01" + deep + b"".join(ormsgpack.packb(text) for text in texts(*[500] * 40))
    assert list(element_ends(data, 3, 1)) == [4]
    encoding = Codec().encode(TAG, data)
    assert Codec().decode(encoding.record, encoding.chunks) == (TAG, data)


@pytest.mark.parametrize("elements", [0, 15, 16, 65_535, 65_536])
def test_the_header_of_an_array_is_that_of_ormsgpack(elements: int) -> None:
    assert array_header(elements) + b"\xc0" * elements == ormsgpack.packb([None] * elements)


def test_an_extension_is_what_ormsgpack_reads() -> None:
    for size in (3, 255, 256, 65_535, 65_536):
        payload = b"x" * size
        seen: list[tuple[int, bytes]] = []
        ormsgpack.unpackb(extension(7, payload), ext_hook=lambda *found: seen.append(found))  # noqa: B023
        assert seen == [(7, payload)]


@given(values=st.dictionaries(st.text(), plain, min_size=1))
def test_pairs_of_a_map_stay_together(values: dict[str, Any]) -> None:
    data = ormsgpack.packb(values)
    container = outer_container(data)
    assert container is not None
    assert len(list(element_ends(data, container.prefix_bytes, container.objects_each))) == len(values)


@settings(max_examples=60)
@given(data=st.data())
def test_what_a_previous_encoding_saves_changes_nothing(data: st.DataObject) -> None:
    sizes = st.lists(st.sampled_from([5, 300, 1100, 5000, 20_000]), min_size=1, max_size=40)
    before, after = data.draw(sizes), data.draw(sizes)
    kept = data.draw(st.integers(0, len(before)))
    codec = Codec()
    previous = codec.encode(TAG, ormsgpack.packb(texts(*before)))
    content = ormsgpack.packb(texts(*before[:kept], *after))
    with_help, without = codec.encode(TAG, content, previous=previous), codec.encode(TAG, content)
    assert with_help.record == without.record
    assert with_help.chunks == without.chunks


@pytest.mark.parametrize("before", [10_000, 256 * PIECE_BYTES])  # a longer text is cut into larger pieces
def test_what_a_previous_encoding_of_a_text_saves_changes_nothing_either(before: int) -> None:
    codec, text = Codec(), random.Random(1).randbytes(before + 10)
    previous = codec.encode("bytes", text[:before])
    with_help, without = codec.encode("bytes", text, previous=previous), codec.encode("bytes", text)
    assert with_help.record == without.record
    assert with_help.chunks == without.chunks


def test_what_a_value_and_the_previous_one_begin_with_is_not_cut_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[int] = []

    def noted(data: bytes, start: int, objects_each: int) -> Iterator[int]:
        cut.append(len(data) - start)
        return element_ends(data, start, objects_each)

    monkeypatch.setattr(codec_module, "element_ends", noted)
    codec = Codec()
    messages = texts(*[1000] * 400)
    previous = codec.encode(TAG, ormsgpack.packb(messages))
    for changed in ([*messages, "more"], [*messages[:200], "edited", *messages[201:]]):
        codec.encode(TAG, ormsgpack.packb(changed), previous=previous)
    whole, after_append, after_edit = cut
    assert after_append < 2 * PACK_MAX_BYTES < whole
    assert whole / 2 - 1000 < after_edit < whole / 2 + 2 * PACK_MAX_BYTES


@pytest.mark.parametrize("size", [30, 300, 1000, 3000])
def test_a_long_value_is_read_in_few_pieces_however_it_has_grown(size: int) -> None:
    codec = Codec()
    messages = texts(*[size] * (400_000 // size))
    encoding = None
    for count in range(len(messages) % 7, len(messages) + 1, 7):
        encoding = codec.encode(TAG, ormsgpack.packb(messages[:count]), previous=encoding)
    assert encoding is not None
    leaves = [chunk for chunk in encoding.chunks.values() if not chunk.node]
    assert 400_000 / PACK_MAX_BYTES < len(leaves) < 1.5 * 400_000 / PACK_BYTES


def test_a_long_list_whose_elements_are_all_alike_is_read_in_few_pieces() -> None:
    """Where no element says so, nothing else ends a piece but its length."""
    for letter in "abcdefgh":
        encoding = Codec().encode(TAG, ormsgpack.packb([letter * 1100] * 400))
        assert len(encoding.packs) > 400 * 1100 / PACK_MAX_BYTES - 2


def test_what_looks_like_the_ids_of_chunks_is_no_node() -> None:
    codec = Codec()
    encoding = codec.encode("bytes", random.Random(1).randbytes(1_000_000))
    bodies = [chunk.body for chunk in encoding.chunks.values() if chunk.node and len(chunk.body) > INLINE_BYTES]
    assert bodies
    for body in bodies:
        other = codec.encode("bytes", body)
        assert codec.decode(other.record, {**other.chunks, **encoding.chunks}) == ("bytes", body)


@pytest.mark.parametrize("size", [30, 1000, 3000])
def test_an_append_adds_about_what_was_appended(size: int) -> None:
    codec = Codec()
    messages = texts(*[size] * 400)
    before = codec.encode(TAG, ormsgpack.packb(messages[:-1]))
    after = codec.encode(TAG, ormsgpack.packb(messages))
    assert new_bytes(before, after) < size + 6000


def test_an_edit_in_the_middle_changes_the_chunks_around_it_only() -> None:
    codec = Codec()
    messages = texts(*[1000] * 400)
    before = codec.encode(TAG, ormsgpack.packb(messages))
    for edited in ([*messages[:200], "edited", *messages[201:]], [*messages[:200], *messages[201:]]):
        assert new_bytes(before, codec.encode(TAG, ormsgpack.packb(edited))) < 20_000


def test_a_list_and_its_delta_snapshot_share_their_chunks() -> None:
    codec = Codec()
    packed = ormsgpack.packb(texts(*[1000] * 100))
    before = codec.encode(TAG, packed)
    for _ in range(2):
        packed = ormsgpack.packb(ormsgpack.Ext(7, packed))
        assert new_bytes(before, codec.encode(TAG, packed)) == 0


def test_an_appended_text_shares_what_came_before() -> None:
    codec = Codec()
    text = "".join(random.Random(1).choices("abcdef ", k=100_000))
    before = codec.encode(TAG, ormsgpack.packb(text))
    assert new_bytes(before, codec.encode("bytes", ormsgpack.packb(text) + b"more")) < 10_000


def test_encrypted_bytes_are_never_compressed_or_searched_for_elements() -> None:
    sealed = b"\xdd\x00\x00\x00\x02" + bytes(100_000)
    encoding = Codec(compression="zstd").encode("msgpack+aes", sealed)
    assert [len(chunk.body) for chunk in encoding.chunks.values()] == [len(sealed) + 1]


def test_compression_is_only_used_where_it_helps() -> None:
    noise, air = os.urandom(5000), b"air " * 1250
    codec = Codec(compression="zstd")
    kept = codec.encode("bytes", noise).chunks.values()
    assert sum(len(chunk.body) for chunk in kept) == len(noise) + len(kept)
    assert len(codec.encode_whole("bytes", noise, associated=b"")) < len(noise) + 20
    assert sum(len(chunk.body) for chunk in codec.encode("bytes", air).chunks.values()) < len(air) / 10


def test_a_missing_chunk_is_an_error() -> None:
    encoding = Codec().encode(TAG, ormsgpack.packb(texts(*[1000] * 100)))
    for lost in encoding.chunks:
        remaining = {id_: chunk for id_, chunk in encoding.chunks.items() if id_ != lost}
        with pytest.raises(CorruptCheckpoint, match=lost.hex()):
            Codec().decode(encoding.record, remaining)


def bombs() -> dict[str, tuple[bytes, list[Chunk]]]:
    """A few chunks that claim to be a huge value, and the references to them."""
    ids = [bytes([number]) * 16 for number in range(64)]
    zeros = b"\x01" + zstandard.ZstdCompressor().compress(bytes(1 << 24))

    def nodes(leaf: bytes) -> list[Chunk]:
        return [Chunk(ids[0], leaf), *(Chunk(ids[at], ids[at - 1] * 64, node=True) for at in range(1, 64))]

    return {
        "the same chunk very often": (ids[0] * 700_000, [Chunk(ids[0], bytes(8192))]),
        "a compressed chunk": (ids[0] * 300, [Chunk(ids[0], zeros)]),
        "nodes of nodes": (ids[63], nodes(b"\x00a")),
        "nodes of nodes of nothing": (ids[63], nodes(b"\x00")),
        "a node of itself": (ids[0], [Chunk(ids[0], ids[0] * 2, node=True)]),
    }


@pytest.mark.parametrize("bomb", bombs())
def test_chunks_that_claim_to_be_a_huge_value_are_not_joined(bomb: str) -> None:
    refs, chunks = bombs()[bomb]
    root = Codec().encode(TAG, bytes(1000)).record.root
    with pytest.raises(CorruptCheckpoint, match=r"impossible size|recursion"):
        Codec().decode(ValueRecord(root, refs), {chunk.id: chunk for chunk in chunks})


def test_a_frame_that_claims_more_than_a_piece_holds_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(compression="zstd")
    encoding = codec.encode("bytes", bytes(5000))
    header = codec.encode_whole("bytes", bytes(5000), associated=b"")
    monkeypatch.setattr(codec_module, "MAX_PIECE_BYTES", 4000)
    for record, chunks in ((encoding.record, encoding.chunks), (ValueRecord(header), {})):
        with pytest.raises(CorruptCheckpoint, match="impossible size"):
            codec.decode(record, chunks)


def test_what_would_not_be_unpacked_is_not_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "MAX_PIECE_BYTES", 4000)
    for size in (4000, 4001):
        header = Codec(compression="zstd").encode_whole("bytes", bytes(size), associated=b"")
        assert Codec().decode(ValueRecord(header), {}) == ("bytes", bytes(size))
        assert (len(header) < size) == (size == 4000)


def test_chunks_that_are_longer_than_any_value_are_not_all_held(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = Codec(compression="zstd").encode(TAG, ormsgpack.packb(texts(*[1000] * 400)))
    monkeypatch.setattr(codec_module, "MAX_VALUE_BYTES", 100_000)
    unpacked: list[int] = []

    def noted(frame: bytes) -> bytes:
        unpacked.append(len(content := zstandard.decompress(frame)))
        return content

    monkeypatch.setattr(codec_module, "_decompressed", noted)
    with pytest.raises(CorruptCheckpoint, match="impossible size"):
        Codec().decode(encoding.record, encoding.chunks)
    assert sum(unpacked) < 100_000 + PACK_MAX_BYTES


@pytest.mark.parametrize("left", [0, 1, 5])
def test_an_empty_value_is_told(left: int) -> None:
    root = Codec().encode(TAG, b"\xc0").record.root
    with pytest.raises(CorruptCheckpoint, match="it is empty or cut off"):
        Codec().decode(ValueRecord(root[:left]), {})


@settings(max_examples=300)
@given(root=st.binary(max_size=200), refs=st.binary(max_size=64))
def test_random_bytes_are_never_taken_for_a_value(root: bytes, refs: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        Codec().decode(ValueRecord(root, refs), {})


@pytest.mark.parametrize("compression", [None, "zstd"])
@settings(max_examples=200)
@given(data=st.data())
def test_a_flipped_bit_anywhere_never_gives_another_value(compression: Any, data: st.DataObject) -> None:
    value = data.draw(st.sampled_from([1, 2, 3]))
    content = ormsgpack.packb({1: texts(200), 2: texts(*[900] * 40), 3: "x" * 9000}[value])
    codec = Codec(compression=compression)
    encoding = codec.encode(TAG, content)

    def flipped(stored: bytes) -> bytes:
        bit = data.draw(st.integers(0, 8 * len(stored) - 1))
        damaged = bytearray(stored)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    record, chunks = encoding.record, dict(encoding.chunks)
    target = data.draw(st.sampled_from(["root", *(["refs"] if record.refs else []), *chunks]))
    if target == "root":
        record = ValueRecord(flipped(record.root), record.refs)
    elif target == "refs":
        record = ValueRecord(record.root, flipped(record.refs))
    else:
        assert isinstance(target, bytes)
        chunks[target] = Chunk(target, flipped(chunks[target].body), chunks[target].node)
    try:
        found = codec.decode(record, chunks)
    except CorruptCheckpoint:
        return
    # A zstd frame has bits that mean nothing.
    assert compression == "zstd"
    assert found == (TAG, content)


@pytest.mark.parametrize("size", [10, 2000, 100_000])
def test_a_value_of_a_later_format_is_told_from_a_damaged_one(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec()
    with monkeypatch.context() as later:
        later.setattr(codec_module, "_FORMAT", 2)
        encoding = codec.encode(TAG, ormsgpack.packb("x" * size), associated=b"place")
    with pytest.raises(SchemaMismatch, match=r"has format 2.* upgrade checkpoint-backends"):
        codec.decode(encoding.record, encoding.chunks, associated=b"place")
    root = bytearray(encoding.record.root)
    root[0] ^= 1
    with pytest.raises(CorruptCheckpoint, match="checksum"):
        codec.decode(ValueRecord(bytes(root), encoding.record.refs), encoding.chunks, associated=b"place")


def test_a_tag_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match="255 bytes"):
        Codec().encode("x" * 256, b"")
