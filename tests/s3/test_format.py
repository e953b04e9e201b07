"""Objects are what `docs/s3.md` says: this reader knows nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import ormsgpack
import pytest
import zstandard
from langgraph.types import Interrupt

from checkpoint_base import open_saver
from checkpoint_s3 import S3Saver
from checkpoint_s3.connections import make_client
from tests.s3.bucket import keys
from tests.s3.conftest import Two
from tests.s3.test_saver import checkpoint
from tests.s3.threads import numbers, put
from tests.servers import s3

ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


def base64(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 6)
    return "".join(ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def digest(size: int, data: bytes) -> bytes:
    return blake2b(data, digest_size=size).digest()


def segment(text: str, longest: int = 96) -> str:
    quoted = quote(text, safe="")
    return f"={quoted}" if len(quoted) <= longest else f"~{base64(digest(20, text.encode()))}"


def id_segment(id_: str) -> str:
    return base64(bytes(255 - byte for byte in id_.encode()) + b"\xff")


def opened(body: bytes, kind: bytes) -> tuple[Any, Any]:
    assert (body[:4], body[4], body[5:6], body[6:8]) == (b"CKS3", 1, kind, b"\0\0")
    end = 16 + int.from_bytes(body[8:12], "big")
    head, tail = body[16:end], body[end + 4 :]
    assert zlib.crc32(body[4:12] + head) == int.from_bytes(body[12:16], "big")
    assert zlib.crc32(tail) == int.from_bytes(body[end : end + 4], "big")
    return ormsgpack.unpackb(head), ormsgpack.unpackb(tail)


def contents(ids: bytes, chunks: dict[bytes, tuple[bool, bytes]]) -> Iterator[bytes]:
    for at in range(0, len(ids), 16):
        is_node, body = chunks[ids[at : at + 16]]
        if is_node:
            yield from contents(body, chunks)
        else:
            yield zstandard.decompress(body[1:]) if body[0] else body[1:]


def value(root: bytes, refs: bytes, chunks: dict[bytes, tuple[bool, bytes]], *beside: str) -> Any:
    """The tag and the bytes of the serializer, whose checksum covers what stands ``beside`` it, too."""
    flags, length = root[0], root[5]
    tag, rest = root[6 : 6 + length].decode(), root[6 + length :]
    assert flags & 0x0F == 1
    behind: list[bytes] = []
    if flags & 0x10:
        rest = zstandard.decompress(rest) if flags & 0x20 else rest
    else:
        behind = [*contents(refs, chunks)]
    checked = zlib.crc32(b"".join(behind)) if behind else 0
    covered = root[5 : 6 + length] + "\0".join(beside).encode()
    assert zlib.crc32(rest, zlib.crc32(covered, checked ^ flags)) == int.from_bytes(root[1:5], "big")
    return tag, b"".join([rest, *behind])


@pytest.fixture(params=[None, "zstd"])
def compression(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_thread_is_read_by_what_the_page_says(radosgw_endpoint: str, radosgw_url: str, compression: Any) -> None:
    thread = "order 17/ü" * 12
    config: Any = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    messages: list[str] = []
    with open_saver(radosgw_url, compression=compression) as saver:
        assert isinstance(saver, S3Saver)
        for number in range(60):
            messages = [*messages, f"message {number} " + "x" * 1000]
            made, metadata, versions = checkpoint(messages=messages, n=number)
            config = saver.put(config, made, metadata, versions)
        saver.put_writes(config, [("n", 99), ("__interrupt__", (Interrupt("sure?", id="question"),))], "task 1")
        serde = saver.serde
    id_ = config["configurable"]["checkpoint_id"]

    client = make_client(endpoint_url=radosgw_endpoint)
    root = urlsplit(radosgw_url).path.strip("/") + "/"

    def get(key: str) -> bytes:
        return client.get_object(Bucket=s3.BUCKET, Key=root + key)["Body"].read()

    def names(prefix: str) -> list[str]:
        found = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=root + prefix)
        return [entry["Key"].removeprefix(root) for entry in found.get("Contents", ())]

    assert get("format") == b'{"application":"checkpoint-backends","format":1}'
    assert get(f"n/{segment(thread)}") == thread.encode()
    space = f"t/{segment(thread)}/=/"
    folder = f"{space}{id_segment(id_)}/"
    assert names(space)[0].startswith(folder), "the greatest id is listed first"

    # The checkpoint, and the objects that its name refers to.
    [name] = [name for name in names(folder) if name.startswith(f"{folder}c")]
    tag, *references = name.removeprefix(f"{folder}c").split(".")
    *most, last = digest(3, get(name))
    assert (len(tag), tag[12:]) == (16, base64(bytes([*most, last & 0xFE])))
    assert references
    keys = [name]
    for at, reference in enumerate(references):
        id_bytes = reference[:22]
        bits = "".join(f"{ALPHABET.index(letter):06b}" for letter in id_bytes)[:128]
        older = str(UUID(int=int(bits, 2)))
        keys.append(f"{space}{id_segment(older)}/c{'.'.join([reference[22:], *references[at + 1 :]])}")
    head, _ = opened(get(name), b"c")
    namespace, found_id, parent, run, caller_id, _, _, opened_channels, channels, header = head
    assert (namespace, found_id, run, caller_id, opened_channels) == ("", id_, None, None, [])
    assert parent != id_
    values: dict[tuple[str, str], tuple[bytes, bytes]] = {}
    chunks: dict[bytes, tuple[bool, bytes]] = {}
    for key in reversed(keys):
        _, (rows, more) = opened(get(key), b"c")
        values |= {(channel, version): (root_, refs) for channel, version, root_, refs in rows}
        chunks |= {chunk: (is_node, body) for chunk, is_node, body in more}
    state = {
        channel: serde.loads_typed(value(*values[channel, version], chunks))
        for channel, version, has_value in channels
        if has_value
    }
    assert state == {"messages": messages, "n": 59}
    pairs = [text for channel, version, _ in channels for text in (channel, version)]
    checkpoint_, metadata_ = serde.loads_typed(value(header, b"", {}, "", id_, parent, "", *pairs))
    assert checkpoint_["id"] == id_
    assert metadata_["source"] == "loop"

    # Its writes, and the marker of the question.
    task = base64(digest(16, b"task 1"))
    head, (rows, more) = opened(get(f"{folder}w{task}.0"), b"w")
    assert head[:2] == ["", id_]
    assert [row[:4] for row in rows] == [["task 1", 0, "n", ""]]
    assert serde.loads_typed(value(rows[0][4], rows[0][5], {}, "task 1", "0", "n", "", "0", "True")) == 99
    _, (rows, more) = opened(get(f"{folder}x{task}.3"), b"w")
    assert [(row[0], row[1], row[2], row[6], row[7]) for row in rows] == [("task 1", -3, "__interrupt__", 1, False)]
    [marker] = names(f"i/{segment(thread)}/")
    assert marker.rpartition(".")[0] == f"i/{segment(thread)}/{id_segment(id_)}.{task}"

    # What was removed is in the ledger, by the digests of its names.
    with open_saver(radosgw_url) as saver:
        saver.prune([thread])
    head, tail = opened(get(f"l/{segment(thread)}/!"), b"l")
    hidden = b"".join(digests for _, digests in head[3])
    older_keys = [key for key in names(space) if not key.startswith(folder)]
    assert tail is None
    assert older_keys
    assert [note.rpartition("/")[0] for note in names("r/")] == [f"r/{segment(thread)}"]
    for key in older_keys:
        assert digest(10, key.removeprefix(f"t/{segment(thread)}/").encode()) in [
            hidden[at : at + 10] for at in range(0, len(hidden), 10)
        ]
    client.close()


@pytest.mark.parametrize(("more", "marks"), [(0, "=="), (1, "~~")], ids=["spelled out", "digests"])
def test_ids_are_spelled_out_in_keys_up_to_a_length(two: Two, moto_url: str, more: int, marks: str) -> None:
    saver, reader = two
    thread, space = "t" * (96 + more), "s" * (48 + more)
    put(saver, 1, thread=thread, space=space)
    [key] = keys(moto_url, "t/")
    assert [segment[0] for segment in key.split("/")[1:3]] == list(marks)
    assert numbers(reader.list({"configurable": {"thread_id": thread}})) == [1]
