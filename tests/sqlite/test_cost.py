"""What each operation costs: requests counted, without any server."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Interrupt

from checkpoint_base import SQLiteSaver, paging
from tests.conftest import counted


def put(saver: SQLiteSaver, thread_id: str, values: dict[str, Any], parent: Any = None, **metadata: Any) -> Any:
    checkpoint = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)  # type: ignore[call-arg]
    config = parent or {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    return saver.put(config, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)


@pytest.fixture
def filled(saver: SQLiteSaver) -> Any:
    """A thread of 60 checkpoints with a long list, and a question at the end."""
    config = None
    for step in range(60):
        messages = [f"message {n} ".ljust(1100, ".") for n in range(step + 1)]
        config = put(saver, "thread", {"messages": messages}, config, run_id=f"run-{step % 3}")
    saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id="i-1"),))], "task-1")
    return config


OPERATIONS: dict[str, tuple[int, Callable[[SQLiteSaver, Any], Any]]] = {
    "put": (1, lambda saver, config: put(saver, "thread", {"messages": ["x" * 2000] * 50, "n": 1}, config)),
    "put_writes": (1, lambda saver, config: saver.put_writes(config, [("a", "x" * 2000), ("b", 2)], "task-2")),
    "get_tuple": (1, lambda saver, config: saver.get_tuple(config)),
    "get_tuple of the latest": (1, lambda saver, _: saver.get_tuple({"configurable": {"thread_id": "thread"}})),
    "a page of list": (1, lambda saver, _: list(saver.list({"configurable": {"thread_id": "thread"}}, limit=25))),
    "two pages of list": (2, lambda saver, _: list(saver.list({"configurable": {"thread_id": "thread"}}))),
    "a page of history": (1, lambda saver, _: list(saver.history({"configurable": {"thread_id": "thread"}}))),
    "list of everything": (1, lambda saver, _: list(saver.list(None, filter={"run_id": "run-1"}))),
    "interrupts": (1, lambda saver, _: list(saver.interrupts())),
    "threads": (1, lambda saver, _: list(saver.threads())),
    "delta history": (
        1,
        lambda saver, config: saver.get_delta_channel_history(config=config, channels=["messages", "other"]),
    ),
    "delete_thread": (1, lambda saver, _: saver.delete_thread("thread")),
    "delete_for_runs": (1, lambda saver, _: saver.delete_for_runs(["run-0", "run-1"])),
    "copy_thread": (1, lambda saver, _: saver.copy_thread("thread", "copy")),
    "prune": (1, lambda saver, _: saver.prune(["thread", "copy"])),
    "nothing to write": (0, lambda saver, config: saver.put_writes(config, [], "task-2")),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_takes_so_many_round_trips(operation: str, saver: SQLiteSaver, filled: Any) -> None:
    expected, act = OPERATIONS[operation]
    transport = counted(saver)
    act(saver, filled)
    assert transport.requests == expected


def test_both_colours_take_the_same_round_trips(saver: SQLiteSaver, filled: Any) -> None:
    transport = counted(saver)

    async def read() -> None:
        await saver.aget_tuple(filled)
        assert [found async for found in saver.alist({"configurable": {"thread_id": "thread"}}, limit=3)]

    asyncio.run(read())
    assert transport.requests == 2


def test_a_listing_takes_a_round_trip_for_the_first_25_and_one_for_each_hundred_then(saver: SQLiteSaver) -> None:
    config = None
    for _ in range(250):
        config = put(saver, "long", {"n": 1}, config)
    transport = counted(saver)
    assert len(list(saver.list({"configurable": {"thread_id": "long"}}))) == 250
    assert transport.requests == 4


def test_a_page_without_contents_is_four_times_as_long_as_the_one_before(saver: SQLiteSaver) -> None:
    for number in range(1200):
        put(saver, f"thread {number}", {"n": 1}, team=number % 2, place={"n": number})
    transport = counted(saver)
    limits = asked(saver, "threads", "list")
    assert len({each.thread_id for each in saver.threads()}) == 1200
    assert len({each.thread_id for each in saver.history(None)}) == 1200
    assert limits == [100, 400, 1600] * 2
    assert transport.requests == 6
    limits.clear()
    assert len([*saver.threads(limit=300, order="oldest")]) == 300
    assert len([*saver.threads(limit=300, metadata={"team": 1})]) == 300
    assert limits == [100, 200] * 2
    limits.clear()
    assert [each.thread_id for each in saver.threads(limit=1, metadata={"place": {"n": 0}})] == ["thread 0"]
    assert limits == [100, 400, 1600]


def test_a_page_is_no_longer_than_what_it_is_likely_to_hold(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        put(saver, f"thread {number}", {"n": 1}, padding=bytes(2000))
    monkeypatch.setattr(paging, "PAGE_BYTES", 300_000)
    limits = asked(saver, "threads")
    assert len({each.thread_id for each in saver.threads()}) == 250
    first, *others = limits
    assert first == 100
    assert all(100 < limit < 150 for limit in others)


def test_a_page_of_long_questions_is_no_longer_either(saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        stored = put(saver, f"thread {number}", {"n": 1})
        saver.put_writes(stored, [("__interrupt__", [Interrupt(os.urandom(10_000), id=str(number))])], "task")
    monkeypatch.setattr(paging, "PAGE_BYTES", 300_000)
    limits = asked(saver, "interrupts")
    assert len({each.thread_id for each in saver.interrupts()}) == 200
    first, *others = limits
    assert first == 100
    assert all(25 < limit < 30 for limit in others)
    assert len(others) == 4


def asked(saver: SQLiteSaver, *names: str) -> list[int]:
    """The limits of the pages that the saver asks its store for."""
    limits: list[int] = []
    for name in names:
        fetch = getattr(saver.store, name)

        def noting(query: Any, fetch: Any = fetch) -> Any:
            limits.append(query.limit)
            return fetch(query)

        setattr(saver.store, name, noting)
    return limits


def test_a_filter_that_the_store_cannot_apply_takes_no_round_trip_for_each_checkpoint(saver: SQLiteSaver) -> None:
    config = None
    for step in range(60):
        config = put(saver, "long", {"n": 1}, config, place={"step": step})
    transport = counted(saver)
    found = saver.list({"configurable": {"thread_id": "long"}}, filter={"place": {"step": 0}}, limit=1)
    assert [each.metadata["place"] for each in found] == [{"step": 0}]
    assert transport.requests == 2


def test_chunks_that_vanished_since_they_were_seen_are_sent_again(saver: SQLiteSaver, filled: Any) -> None:
    put(saver, "other", {"a": ["y" * 3000] * 30})
    saver.delete_thread("other")
    transport = counted(saver)
    stored = put(saver, "other", {"a": ["y" * 3000] * 30})
    assert transport.requests == 2
    with SQLiteSaver(saver.store.transport.path) as reader:
        assert reader.get_tuple(stored).checkpoint["channel_values"] == {"a": ["y" * 3000] * 30}


def test_chunks_of_writes_that_vanished_since_they_were_seen_are_sent_again(saver: SQLiteSaver, filled: Any) -> None:
    saver.put_writes(put(saver, "other", {"n": 1}), [("a", ["y" * 3000] * 30)], "task-1")
    saver.delete_thread("other")
    stored = put(saver, "other", {"n": 1})
    transport = counted(saver)
    saver.put_writes(stored, [("a", ["y" * 3000] * 30)], "task-2")
    assert transport.requests == 2
    with SQLiteSaver(saver.store.transport.path) as reader:
        assert reader.get_tuple(stored).pending_writes == [("task-2", "a", ["y" * 3000] * 30)]


def test_put_sends_only_what_is_new(saver: SQLiteSaver, filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = saver.get_tuple(filled).checkpoint["channel_values"]["messages"]
    sent: list[int] = []
    original = saver.store.put

    def spying(checkpoint: Any, values: Any, chunks: Any, unchanged: Any) -> Any:
        sent.append(sum(len(chunk.body) for chunk in chunks.values()) + len(checkpoint.header))
        sent[-1] += sum(len(value.value.root) + len(value.value.refs) for value in values)
        return original(checkpoint, values, chunks, unchanged)

    monkeypatch.setattr(saver.store, "put", spying)
    put(saver, "thread", {"messages": [*messages, "one more ".ljust(1100, ".")]}, filled)
    assert len(sent) == 1
    assert sent[0] < 3000


def test_one_task_of_many_that_wait_stores_nothing_of_the_others(saver: SQLiteSaver) -> None:
    config = put(saver, "thread", {"a": 1})
    tasks = [f"task {number:02}" for number in range(40)]
    with closing(sqlite3.connect(saver.store.transport.path, isolation_level=None)) as other:
        other.execute("CREATE TABLE seen (task_id TEXT)")
        other.execute("CREATE TRIGGER added AFTER INSERT ON waiting BEGIN INSERT INTO seen VALUES (new.task_id); END")
        for task in tasks:
            saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id=task),))], task)
        saver.put_writes(config, [("__resume__", "yes"), ("a", 2)], "task 07")
        assert [task for (task,) in other.execute("SELECT task_id FROM seen")] == tasks
        left = other.execute("SELECT task_id FROM waiting ORDER BY task_id").fetchall()
        assert [task for (task,) in left] == [task for task in tasks if task != "task 07"]
        put(saver, "thread", {"a": 2}, config)
        assert other.execute("SELECT count(*) FROM waiting").fetchall() == [(0,)]
