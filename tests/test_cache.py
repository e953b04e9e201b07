"""What a process remembers of what it stored, and how much of it."""

from __future__ import annotations

import pytest

from checkpoint_base import cache
from checkpoint_base.cache import RecentEncodings, SeenChunks
from checkpoint_base.codec import Codec, Encoding
from checkpoint_base.records import Chunk, ValueRecord


def chunks(*numbers: int) -> dict[bytes, Chunk]:
    return {chunk.id: chunk for chunk in (Chunk(b"%016d" % number, b"") for number in numbers)}


@pytest.fixture
def few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_CHUNKS", 10)


@pytest.mark.usefixtures("few_chunks")
def test_the_threads_that_were_used_longest_ago_are_forgotten_first() -> None:
    seen = SeenChunks()
    for thread_id in ("a", "b", "a", "c"):
        seen.add(thread_id, chunks(*range(5)))
    assert seen.unseen("b", chunks(*range(5))) == chunks(*range(5))
    assert seen.unseen("a", chunks(*range(6))) == chunks(5)
    assert seen.unseen("c", chunks(*range(5))) == {}
    seen.add("c", chunks(5))
    assert seen.unseen("c", chunks(*range(7))) == chunks(6)


@pytest.mark.usefixtures("few_chunks")
def test_of_a_thread_with_too_many_chunks_those_that_were_added_last_are_remembered() -> None:
    seen = SeenChunks()
    seen.add("long", chunks(*range(20)))
    assert seen.unseen("long", chunks(*range(21))) == chunks(20)
    seen.add("long", chunks(*range(1, 21)))
    assert seen.unseen("long", chunks(*range(22))) == chunks(0, 21)
    seen.add("other", chunks(1, 2))
    assert seen.unseen("other", chunks(1, 2)) == {}
    assert seen.unseen("long", chunks(*range(3))) == chunks(*range(3))


@pytest.mark.parametrize(("tag", "is_remembered"), [("msgpack", True), ("msgpack+aes", False)])
def test_what_is_encrypted_is_not_remembered_because_its_next_value_shares_no_bytes(
    tag: str, is_remembered: bool
) -> None:
    recent = RecentEncodings()
    recent.remember("t", "", "a", Codec().encode(tag, bytes(1000)))
    assert (recent.get("t", "", "a") is not None) == is_remembered


def test_encodings_are_forgotten_by_the_bytes_that_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_ENCODING_BYTES", 10_000)
    recent = RecentEncodings()
    for channel in "abca":
        recent.remember("t", "", channel, Encoding(ValueRecord(b""), {}, b"x" * 1000))
    assert [channel for channel in "abc" if recent.get("t", "", channel)] == ["a", "b", "c"]
    recent.remember("t", "", "d", Encoding(ValueRecord(b""), {}, b"x" * 1000))
    assert [channel for channel in "abcd" if recent.get("t", "", channel)] == ["a", "c", "d"]
    recent.remember("t", "", "e", Encoding(ValueRecord(b""), {}, b"x" * 10_000))
    assert [channel for channel in "abcde" if recent.get("t", "", channel)] == ["a", "c", "d"]
