"""What a process remembers is bounded, and forgetting it costs requests only."""

from __future__ import annotations

import os
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from langgraph.types import Interrupt

from checkpoint_base.keys import CheckpointKey, NamespaceKey
from checkpoint_base.per_process import PerProcess
from checkpoint_base.records import CheckpointRecord
from checkpoint_s3 import S3Saver, inbox, memory
from checkpoint_s3.format import Head, Items, Ledger, checkpoint_object, ledger_object, name_digest, read_head
from checkpoint_s3.layout import CheckpointName, Keys, Label, task_digest
from checkpoint_s3.stack import Snapshot
from checkpoint_s3.survey import Surveyor
from checkpoint_s3.transport import Found, Get
from tests.s3.threads import config_of, put
from tests.s3.transports import Beside, between, counted, once


@pytest.fixture
def saver(moto_url: str) -> Iterator[S3Saver]:
    with S3Saver.from_conn_string(moto_url) as opened:
        yield opened


def remembered(saver: S3Saver) -> tuple[int, int, int]:
    """How many threads and namespaces, and how many bytes."""
    threads = saver.store._surveyor.memory._threads  # type: ignore[attr-defined]
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


def test_facts_are_remembered_up_to_a_weight() -> None:
    facts = memory.Recent[str, str](10, len)
    for at, fact in enumerate(["xxx", "xxx", "xxx", "x" * 8, "y"]):
        facts.remember({f"{at}": fact})
    assert facts.known("01234") == {"3": "x" * 8, "4": "y"}
    facts.remember({"3": "z"})
    facts.remember({"5": "x" * 8})
    assert facts.known("012345") == {"4": "y", "3": "z", "5": "x" * 8}
    facts.remember({"6": "x" * 11})
    assert facts.known("0123456") == {}


@pytest.mark.parametrize(("metadata", "channels", "heads"), [(100_000, 1, 60), (1, 1_000, 20), (1, 1, 4_000)])
def test_the_beginnings_of_checkpoints_take_no_more_memory_than_is_said(
    metadata: int, channels: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "HEADS_BYTES", 2_000_000)
    known = memory.Memory()
    tracemalloc.start()
    try:
        for number in range(heads):
            key = CheckpointKey("thread", "", f"{number:036}")
            versions = tuple((f"branch:to:node {at}", f"s{number:032}.{at:016}") for at in range(channels))
            record = CheckpointRecord(key, f"{number - 1:036}", os.urandom(metadata), versions, (), b"", None, None, 0)
            body = checkpoint_object(Head(record, frozenset(versions)), Items({}, {}))
            known.heads.remember({f"prefix/t/=thread/=/{number:050}/c{number:016}": read_head(body, key)})
            del record, body, versions, key
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memory.HEADS_BYTES / 4 < taken <= 1.1 * memory.HEADS_BYTES


def test_what_each_step_replaces_counts_for_as_long_as_it_is_remembered(
    saver: S3Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMORY_BYTES", 1_000_000)
    for thread in range(12):
        for number in range(1, memory.SNAPSHOTS + 1):
            put(saver, number, {"x": os.urandom(100_000)}, thread=f"thread {thread}")
    threads = saver.store._surveyor.memory._threads  # type: ignore[attr-defined]
    chunks = {
        id(chunk): len(chunk.body)
        for thread in threads.values()
        for space in thread.spaces.values()
        for snapshot in space.snapshots.values()
        for segment in snapshot.segments
        for chunk in segment.items.chunks.values()
    }
    assert 500_000 < sum(chunks.values()) <= 1_000_000


def test_what_was_forgotten_with_its_thread_takes_no_room_from_others(
    saver: S3Saver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "MEMORY_BYTES", 1_000_000)
    monkeypatch.setattr(memory, "THREADS", 2)
    for number in range(30):
        put(saver, 1, {"x": os.urandom(100_000)}, thread=f"thread-{number}")
    counting = counted(saver)
    for number in (28, 29):
        put(saver, 2, {}, thread=f"thread-{number}", unchanged={"x": "1"})
    assert counting.kinds == {"Put": 2}


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


def interrupted(act: Callable[[], object], line: int, other: Callable[[], object]) -> bool:
    """Act in a thread, and before a line of `checkpoint_s3` that it comes to, let another one act, unless that waits.

    Returns whether it comes to so many lines.
    """
    lines = count()
    beside = threading.Thread(target=other)

    def trace(frame: Any, event: str, _: object) -> Any:
        if not frame.f_globals["__name__"].startswith("checkpoint_s3."):
            return None
        if event == "line" and next(lines) == line:
            beside.start()
            beside.join(timeout=0.1)
        return trace

    def traced() -> None:
        sys.settrace(trace)
        act()

    acting = threading.Thread(target=traced)
    acting.start()
    acting.join()
    if beside.ident is None:
        return False
    beside.join()
    return True


def test_what_a_ledger_hides_is_not_remembered_whenever_the_answer_with_an_older_one_comes() -> None:
    key = CheckpointKey("thread", "", "1")
    removed = CheckpointName("=/", Label("1", bytes(12)), ())
    hidden = frozenset({name_digest(removed.text())})
    older, newer = Ledger(nonce=b"older"), Ledger(nonce=b"newer", hidden=((0, hidden),))

    for line in count():
        surveyor = Surveyor(Keys(""), PerProcess(memory.Memory), grace=120)

        def take_in(ledger: Ledger, asked_at: float, surveyor: Surveyor = surveyor) -> None:
            surveyor.parsed_ledger("thread", Found(ledger_object(ledger), "etag", 0.0, 0), asked_at)

        if not interrupted(lambda: take_in(newer, 1001.0), line, lambda: take_in(older, 1000.0)):
            break
        known = surveyor.memory
        known.remember(key, Snapshot(removed, (), frozenset()), newer.nonce)
        assert known.snapshot(key) is None, f"interrupted before line {line}"
        assert known.thread("thread").nonce == newer.nonce, f"interrupted before line {line}"
    assert line > 10


def test_what_is_known_of_a_thread_is_relied_on_for_a_sixth_of_the_grace_period(
    saver: S3Saver, later: Callable[[float], None]
) -> None:
    put(saver, 1)
    counting = counted(saver)
    later(10)
    put(saver, 2)
    assert counting.kinds == {"Put": 1}
    later(15)
    put(saver, 3)
    assert counting.kinds == {"Put": 2, "Get": 1}


@pytest.fixture
def asked(saver: S3Saver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions of three threads, from the oldest on: far more than a listing should hold."""
    monkeypatch.setattr(inbox, "PAGE_BYTES", 1_000_000)
    configs = [put(saver, 1, thread=f"thread-{number}") for number in range(3)]
    texts = [os.urandom(200_000).hex() for _ in range(36)]
    for at, text in enumerate(texts):
        saver.put_writes(configs[at % 3], [("__interrupt__", (Interrupt(text, id=f"{at}"),))], f"task {at:02}")
    return texts


@pytest.mark.parametrize("listing", ["interrupts", "threads"])
def test_a_listing_holds_the_questions_of_its_page_and_not_all_that_wait(
    asked: list[str], moto_url: str, listing: str
) -> None:
    with S3Saver.from_conn_string(moto_url) as reader:
        list(reader.list(config_of("none")))  # opens what stays
        tracemalloc.start()
        try:
            found = list(getattr(reader, listing)(order="oldest", limit=1))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if listing == "interrupts":
            assert [each.value for each in found] == asked[:1]
        assert most < sum(map(len, asked)) / 2


def test_questions_that_are_too_large_to_be_held_are_read_for_their_page(asked: list[str], moto_url: str) -> None:
    with S3Saver.from_conn_string(moto_url) as reader:
        assert [each.value for each in reader.interrupts(order="oldest")] == asked
        assert [each.value for each in reader.interrupts(limit=3)] == asked[:-4:-1]
        assert sum(each.pending_interrupts for each in reader.threads()) == len(asked)


def test_a_large_question_that_is_replaced_while_it_is_listed_is_looked_for_again(
    saver: S3Saver, asked: list[str], moto_url: str
) -> None:
    new = os.urandom(200_000).hex()

    def ask_another() -> None:
        question = [("__interrupt__", (Interrupt(new, id="new"),))]
        saver.put_writes(config_of("thread-2", 1), question, "task 35")

    with S3Saver.from_conn_string(moto_url) as reader:
        beside: Beside = between(reader, Beside)
        times = iter(range(100))
        last = task_digest("task 35")
        beside.before = once(lambda call: isinstance(call, Get) and last in call.key and next(times) == 1, ask_another)
        assert [each.value for each in reader.interrupts(limit=1)] == [new]
