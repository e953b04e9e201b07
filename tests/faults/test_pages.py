"""Listings go on over pages that become longer, and from page to page of a store, on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from checkpoint_base import open_saver
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import CheckpointRecord, InboxQuery, ListQuery, Order, ValueRecord, WriteRecord
from checkpoint_base.transport import run
from tests.faults.acts import checkpoint, config
from tests.faults.backends import Backend

MANY = 520  # the last ones are on a third page, behind one of 100 and one of 400
TERM = b"12345678"


@pytest.mark.timeout(300)
def test_a_history_and_the_threads_are_whole_over_pages_that_become_longer(backend: Backend) -> None:
    def put(thread: str, number: int) -> None:
        made: Any = checkpoint(number, {"n": number})
        metadata: Any = {"source": "loop", "step": number, "parity": number % 2}
        saver.put(config(thread), made, metadata, made["channel_versions"])  # type: ignore[arg-type]

    numbers = range(MANY)
    with open_saver(backend.url) as saver, ThreadPoolExecutor(8) as callers:
        [*callers.map(put, ["long"] * MANY, numbers)]
        [*callers.map(put, [f"thread {number}" for number in numbers], numbers)]
    with open_saver(backend.url) as saver:
        places: list[Any] = [config("long"), {"configurable": {"thread_id": "long"}}, None]
        for place in places:
            steps = [info.metadata["step"] for info in saver.history(place)]
            assert steps == sorted([*numbers] * (1 if place else 2), reverse=True)
            odd = [info.metadata["step"] for info in saver.history(place, filter={"parity": 1})]
            assert odd == [step for step in steps if step % 2]
        newest = [info.thread_id for info in saver.threads()]
        assert sorted(newest) == sorted(["long", *(f"thread {number}" for number in numbers)])
        assert [info.thread_id for info in saver.threads(order="oldest")] == newest[::-1]
        even = [f"thread {number}" for number in numbers if number % 2 == 0]
        some = [info.thread_id for info in saver.threads(metadata={"parity": 0}, limit=len(even) - 1)]
        assert some == [thread for thread in newest if thread in even][:-1]


def test_pages_end_between_checkpoints_that_have_one_id(backend: Backend) -> None:
    stored = [CheckpointKey(thread, ns, id_) for id_, thread, ns in product("321", "ut", ("d", "c", "b", "a", ""))]
    of_t = [key for key in stored if key.thread_id == "t"]
    with open_saver(backend.url) as saver:
        run(saver.store.setup(), saver.transport)
        for key in sorted(stored, key=lambda key: (key.checkpoint_ns in "ad", key.checkpoint_id)):
            run(saver.store.put(_record(key), [], {}, ()), saver.transport)
    with open_saver(backend.url) as saver:
        for query, expected in (
            (ListQuery(), stored),
            (ListQuery(terms=(TERM,)), stored),
            (ListQuery(before="3"), stored[10:]),
            (ListQuery("t"), of_t),
            (ListQuery("t", terms=(TERM,)), of_t),
            (ListQuery("t", before="2"), of_t[10:]),
            (ListQuery("t", checkpoint_id="2"), of_t[5:10]),
            (ListQuery("t", checkpoint_id="2", before="2"), []),
            (ListQuery("t", checkpoint_ns="b"), of_t[2::5]),
            (ListQuery("t", checkpoint_ns="b", before="2"), of_t[12:13]),
        ):
            # The store is asked itself: behind its caller's first page, others are longer.
            for length in (2, 3):
                found: list[CheckpointKey] = []
                behind = None
                while page := run(
                    saver.store.list(replace(query, limit=length, after=behind, contents=False)), saver.transport
                ):
                    found += [one.position for one in page]
                    behind = page[-1].position
                assert found == expected, (query, length)


def test_pages_end_between_threads_and_questions_that_have_one_time(backend: Backend) -> None:
    threads, tasks = "bdaec", "312"
    question = WriteRecord("", 0, "__interrupt__", "", ValueRecord(b"x"), questions=1, settles=False, written_at=5)
    with open_saver(backend.url) as saver:
        run(saver.store.setup(), saver.transport)
        for thread in threads:
            key = CheckpointKey(thread, "", "1")
            run(saver.store.put(_record(key), [], {}, ()), saver.transport)
            for task in tasks:
                run(saver.store.put_writes(key, [replace(question, task_id=task)], {}), saver.transport)
    expected: dict[Any, list[Any]]
    with open_saver(backend.url) as saver:
        expected = {
            saver.store.threads: sorted((5, thread, "") for thread in threads),
            saver.store.interrupts: sorted((5, thread, task) for thread, task in product(threads, tasks)),
        }
        orders: Sequence[Order] = ("newest", "oldest")
        ways = product(expected.items(), orders, ((), (TERM,)), (1, 2, 4))
        for (listing, positions), order, terms, length in ways:
            found: list[Any] = []
            query = InboxQuery(order=order, terms=terms, limit=length)
            while page := run(listing(query), saver.transport):
                found += [one.position for one in page]
                query = replace(query, after=found[-1])
            assert found == (positions if order == "oldest" else positions[::-1]), query


def _record(key: CheckpointKey) -> CheckpointRecord:
    return CheckpointRecord(key, None, b"header", (), (), TERM, None, None, written_at=5)
