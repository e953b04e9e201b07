"""Listings go on over pages that become longer, on every backend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from checkpoint_base import open_saver
from tests.faults.acts import checkpoint, config
from tests.faults.backends import Backend

MANY = 520  # the last ones are on a third page, behind one of 100 and one of 400


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
