"""What each operation costs: requests counted, and messages on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from langgraph.types import Interrupt
from psycopg import AsyncConnection, Connection

from benchmarks.wire import Proxy, counting
from checkpoint_base import open_saver
from checkpoint_base.store import THREADS_AT_ONCE
from checkpoint_base.transport import Retrying
from checkpoint_postgres import PostgresSaver
from tests.conftest import CountingTransport
from tests.postgres.conftest import CONFIG, Place, checkpoint_of, put_values

THREAD: Any = {"configurable": {"thread_id": "thread"}}


def fill(saver: Any) -> Any:
    """A thread of 60 checkpoints with a long list, and a question at the end."""
    config = CONFIG
    for step in range(60):
        messages = [f"message {n} ".ljust(1100, ".") for n in range(step + 1)]
        config = put_values(saver, {"messages": messages}, config, run_id=f"run-{step % 3}", step=step)
    saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id="i-1"),))], "task-1")
    return config


Act = Callable[[Any, Any], Any]

OPERATIONS: dict[str, tuple[int, Act]] = {
    "put": (1, lambda saver, config: put_values(saver, {"messages": ["x" * 2000] * 50, "n": 1}, config)),
    "put_writes": (1, lambda saver, config: saver.put_writes(config, [("a", "x" * 2000), ("b", 2)], "task-2")),
    "get_tuple": (1, lambda saver, config: saver.get_tuple(config)),
    "get_tuple of the latest": (1, lambda saver, _: saver.get_tuple(THREAD)),
    "a page of list": (1, lambda saver, _: list(saver.list(THREAD, limit=25))),
    "a page of history": (1, lambda saver, _: list(saver.history(THREAD))),
    "a page of everything": (1, lambda saver, _: list(saver.list(None, filter={"run_id": "run-1"}))),
    "a page of interrupts": (1, lambda saver, _: list(saver.interrupts(metadata={"source": "loop"}))),
    "a page of threads": (1, lambda saver, _: list(saver.threads(metadata={"source": "loop"}))),
    "delta history": (
        1,
        lambda saver, config: saver.get_delta_channel_history(config=config, channels=["messages", "other"]),
    ),
    "delete_for_runs": (2, lambda saver, _: saver.delete_for_runs(["run-0", "run-1"])),
    "delete_for_runs of none": (1, lambda saver, _: saver.delete_for_runs(["run-0", "run-1"])),
    "copy_thread": (1, lambda saver, _: saver.copy_thread("thread", "copy")),
    "prune of a batch": (1, lambda saver, _: saver.prune(["thread", "copy", *map(str, range(THREADS_AT_ONCE - 2))])),
    "prune of more": (2, lambda saver, _: saver.prune(["thread", "copy", *map(str, range(THREADS_AT_ONCE - 1))])),
    "delete_thread": (1, lambda saver, _: saver.delete_thread("thread")),
    "delete of a batch": (1, lambda saver, _: saver.prune(["thread", "copy"], strategy="delete")),
    "delete of more": (2, lambda saver, _: saver.prune([*map(str, range(THREADS_AT_ONCE + 1))], strategy="delete")),
    "nothing to write": (0, lambda saver, config: saver.put_writes(config, [], "task-2")),
}


def counted(saver: Any) -> CountingTransport:
    transport = CountingTransport(saver.store.transport)
    saver.transport = Retrying(transport, deadline=5)
    return transport


def test_every_operation_is_one_request_or_as_many_as_it_says(saver: PostgresSaver) -> None:
    config = fill(saver)
    transport = counted(saver)
    for name, (expected, act) in OPERATIONS.items():
        transport.requests = 0
        act(saver, config)
        assert transport.requests == expected, name


@contextmanager
def on_the_wire(place: Place) -> Iterator[tuple[Proxy, str]]:
    """A proxy that counts how often a client spoke and was answered, and the server's URL through it."""
    parts = urlsplit(place.server_url)
    assert parts.port is not None
    with counting(parts.port) as proxy:
        yield proxy, parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()


def warm(saver: Any, config: Any) -> None:
    """psycopg prepares a statement at its sixth use, which takes one more round trip, once for each connection."""
    for _ in range(8):
        saver.put_writes(config, [("a", 1)], "task-0")
        put_values(saver, {"n": 1}, {"configurable": {"thread_id": "warm", "checkpoint_ns": ""}})
        saver.get_tuple(config)
        saver.get_delta_channel_history(config=config, channels=["other"])
        saver.prune(["nothing"])
        saver.delete_thread("nothing")
        saver.copy_thread("nothing", "nothing else")
        saver.delete_for_runs(["nothing"])


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("prepare", [True, False])
def test_every_request_is_one_round_trip_on_the_wire(place: Place, autocommit: bool, prepare: bool) -> None:
    with on_the_wire(place) as (proxy, url), Connection.connect(url, autocommit=autocommit) as given:
        saver = PostgresSaver(given, schema=place.schema, prepare=prepare)
        config = fill(saver)
        warm(saver, config)
        for name, (expected, act) in OPERATIONS.items():
            before = proxy.said()
            act(saver, config)
            assert proxy.said().since(before).trips == expected, name


@pytest.mark.parametrize("autocommit", [True, False])
def test_async_operations_are_one_round_trip_on_the_wire(place: Place, autocommit: bool) -> None:
    async def use(proxy: Proxy, url: str) -> dict[str, int]:
        trips = {}
        async with await AsyncConnection.connect(url, autocommit=autocommit) as given:
            saver = PostgresSaver(given, schema=place.schema, prepare=False)
            checkpoint, versions = checkpoint_of(saver, {"n": [1]})
            config = await saver.aput(CONFIG, checkpoint, {}, versions)
            for name, act in {
                "aput": lambda: saver.aput(CONFIG, checkpoint, {}, versions),
                "aput_writes": lambda: saver.aput_writes(config, [("a", 1)], "task"),
                "aget_tuple": lambda: saver.aget_tuple(config),
                "aprune": lambda: saver.aprune(["thread"]),
            }.items():
                before = proxy.said()
                await act()
                trips[name] = proxy.said().since(before).trips
        return trips

    with on_the_wire(place) as (proxy, url):
        assert set(asyncio.run(use(proxy, url)).values()) == {1}


def test_opening_what_is_set_up_takes_one_request_and_the_first_call_its_own(place: Place) -> None:
    with open_saver(place.url) as first:
        put_values(first, {"a": 1})
    with open_saver(place.url) as saver:
        pass
    saver = open_saver(place.url)
    transport = counted(saver)
    saver.get_tuple(CONFIG)
    assert transport.requests == 2
    saver.get_tuple(CONFIG)
    assert transport.requests == 3
    saver.close()


def test_a_put_sends_only_what_is_new(place: Place) -> None:
    with on_the_wire(place) as (proxy, url), Connection.connect(url, autocommit=True) as given:
        saver = PostgresSaver(given, schema=place.schema)
        messages = [f"message {n} ".ljust(1000, ".") for n in range(400)]
        config = put_values(saver, {"messages": messages})
        for _ in range(8):
            messages = [*messages, "one more ".ljust(1000, ".")]
            before = proxy.said()
            config = put_values(saver, {"messages": messages}, config)
        sent = proxy.said().since(before).sent
        assert sent <= 400 * 1000 / 50
        with PostgresSaver.from_conn_string(place.server_url, schema=place.schema) as reader:
            assert reader.get_tuple(config).checkpoint["channel_values"] == {"messages": messages}


def test_one_task_of_many_that_wait_stores_nothing_of_the_others(saver: PostgresSaver, place: Place) -> None:
    config = put_values(saver, {"a": 1})
    tasks = [f"task {number:02}" for number in range(40)]
    for task in tasks:
        saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id=task),))], task)
    saver.put_writes(config, [("__resume__", "yes"), ("a", 2)], "task 07")
    # Each row is still the one that its own task has stored.
    waiting = place.query("SELECT task_id, xmin::text FROM {s}.waiting")
    stored = place.query("SELECT task_id, xmin::text FROM {s}.writes WHERE channel = '__interrupt__'")
    assert sorted(waiting) == sorted(row for row in stored if row[0] != "task 07")
    assert len({transaction for _, transaction in waiting}) == len(tasks) - 1
    put_values(saver, {"a": 2}, config)
    assert place.query("SELECT count(*) FROM {s}.waiting") == [(0,)]


def test_a_statement_whose_best_plan_depends_on_what_is_asked_for_is_never_prepared(place: Place) -> None:
    with Connection.connect(place.server_url) as given, PostgresSaver(given, schema=place.schema) as saver:
        config = fill(saver)
        for _ in range(8):
            for read in (saver.list(CONFIG), saver.list(None), saver.threads(), saver.interrupts()):
                assert next(iter(read))
            saver.get_tuple(config)
        prepared = [text for (text,) in given.execute("SELECT statement FROM pg_prepared_statements")]
    assert any(".load(" in text for text in prepared)
    assert not [text for text in prepared if "page" in text or "LIMIT" in text]
