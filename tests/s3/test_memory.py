"""What a process remembers is bounded, and forgetting it costs requests only."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_s3 import S3Saver, memory
from checkpoint_s3.layout import CheckpointName, Label
from checkpoint_s3.stack import Snapshot
from tests.s3.threads import config_of, put
from tests.s3.transports import counted


@pytest.fixture
def saver(moto_url: str) -> Iterator[S3Saver]:
    with S3Saver.from_conn_string(moto_url) as opened:
        yield opened


def remembered(saver: S3Saver) -> tuple[int, int, int]:
    """How many threads and namespaces, and how many bytes."""
    threads = saver.store._reader.memory._threads  # type: ignore[attr-defined]
    spaces = [space for thread in threads.values() for space in thread.spaces.values()]
    return len(threads), len(spaces), sum(space.size for space in spaces)


def test_the_namespaces_of_one_thread_are_remembered_up_to_a_limit(
    saver: S3Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMORY_BYTES", 1_000_000)
    for number in range(30):
        put(saver, 1, {"x": os.urandom(100_000)}, space=f"node:{number}")
        saver.put_writes(config_of("thread", 1, f"node:{number}"), [("x", os.urandom(50_000))], "task")
    assert 500_000 < remembered(saver)[2] <= 1_000_000
    saver.put_writes(config_of("thread", 1, "node:0"), [("x", 1)], "another")
    found = saver.get_tuple(config_of("thread", 1, "node:0"))
    assert found is not None
    assert [task for task, _, _ in found.pending_writes or ()] == ["another", "task"]


def test_namespaces_and_threads_are_remembered_up_to_a_number_also_those_that_hold_nothing(
    saver: S3Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "THREADS", 20)
    monkeypatch.setattr(memory, "SPACES", 10)
    for number in range(30):
        assert saver.get_tuple(config_of(f"missing-{number}")) is None
        put(saver, 1, space=f"node:{number}")
    threads, spaces, _ = remembered(saver)
    assert threads <= 20
    assert spaces <= 10
    counting = counted(saver)
    put(saver, 2, space="node:29")
    assert counting.kinds == {"Put": 1}


def test_the_chunks_of_writes_are_remembered_up_to_a_limit(saver: S3Saver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "DRAFT_BYTES", 300_000)
    for number in range(10):
        saver.put_writes(config_of("thread", 1), [("x", os.urandom(100_000))], f"task {number}")
    assert 100_000 < remembered(saver)[2] <= 300_000


def test_of_facts_the_last_ones_are_remembered() -> None:
    facts = memory.Recent[str, int](3)
    for at, key in enumerate("abcad"):
        facts.remember({key: at})
    assert facts.known("abcd") == {"a": 3, "c": 2, "d": 4}


def test_what_each_step_replaces_counts_for_as_long_as_it_is_remembered(
    saver: S3Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMORY_BYTES", 1_000_000)
    for thread in range(12):
        for number in range(1, memory.SNAPSHOTS + 1):
            put(saver, number, {"x": os.urandom(100_000)}, thread=f"thread {thread}")
    threads = saver.store._reader.memory._threads  # type: ignore[attr-defined]
    chunks = {
        id(chunk): len(chunk.body)
        for thread in threads.values()
        for space in thread.spaces.values()
        for snapshot in space.snapshots.values()
        for segment in snapshot.segments
        for chunk in segment.items.chunks.values()
    }
    assert 500_000 < sum(chunks.values()) <= 1_000_000


def test_writes_are_noted_while_a_checkpoint_of_their_namespace_is_remembered() -> None:
    known = memory.Memory()
    key = CheckpointKey("thread", "", "1")
    space = known.space(NamespaceKey("thread", ""))
    name = CheckpointName("=/", Label("1", bytes(12)), ())
    done = threading.Event()

    def note() -> None:
        while not done.is_set():
            space.written.update({("1", f"task-{number}"): (1, {0}) for number in range(300)})
            space.written.clear()

    noting = threading.Thread(target=note)
    noting.start()
    try:
        for _ in range(3000):
            known.remember(key, Snapshot(name, (), frozenset()), None)
            space.written = {("1", f"task-{number}"): (1, {0}) for number in range(300)}
    finally:
        done.set()
        noting.join()
