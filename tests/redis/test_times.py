"""Any time that a checkpoint can bring along is told, sorted by and found again as on SQLite, which stores a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Interrupt

from checkpoint_base import CheckpointSaver, SQLiteSaver, import_thread, transfer
from checkpoint_base.times import microseconds
from checkpoint_redis import RedisSaver
from tests.redis.conftest import config_of

TIMES = [
    "1600-01-01T00:00:00+00:00",  # every time before 1970 counts as its beginning
    "1970-01-01T00:00:00.000001+00:00",
    "2026-01-02T03:04:05.678901+00:00",
    "2255-06-05T23:47:34.740991+00:00",  # the last microsecond before 2 ** 53
    "2255-06-05T23:47:34.740992+00:00",
    "2255-06-05T23:47:34.740993+00:00",
    "2286-11-20T17:46:39.999999+00:00",  # the last of 16 digits
    "2286-11-20T17:46:40.000000+00:00",
    "2300-01-01T00:00:00.000001+00:00",
    "2300-01-01T00:00:00.000002+00:00",
    "9999-12-31T23:59:59.999998+00:00",
    "9999-12-31T23:59:59.999999+00:00",
]
THREADS = [f"thread {number * 5 % len(TIMES):02}" for number in range(len(TIMES))]  # in another order than their times


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteSaver]:
    with SQLiteSaver(tmp_path / "other.db") as opened:
        yield opened


@pytest.fixture
def old() -> InMemorySaver:
    """A saver with a thread for each of the times; each of them waits for an answer."""
    saver = InMemorySaver()
    for time, thread_id in zip(TIMES, THREADS, strict=True):
        checkpoint: Any = {**empty_checkpoint(), "ts": time}
        config = saver.put(config_of(thread_id), checkpoint, {"source": "loop", "step": 1}, {})
        saver.put_writes(config, [("__interrupt__", [Interrupt("go on?", id=thread_id)])], "task")
    return saver


def imported(old: InMemorySaver, *targets: CheckpointSaver) -> None:
    for target in targets:
        for thread_id in THREADS:
            import_thread(old, target, thread_id)


def told(saver: CheckpointSaver, **query: Any) -> tuple[list[Any], list[Any]]:
    return [*saver.threads(**query)], [*saver.interrupts(**query)]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_threads_and_questions_of_any_time_are_listed_as_on_sqlite(
    order: str, old: InMemorySaver, saver: RedisSaver, reader: RedisSaver, sqlite: SQLiteSaver
) -> None:
    imported(old, saver, sqlite)
    assert told(reader, order=order) == told(sqlite, order=order)
    for time, thread_id in zip(TIMES, THREADS, strict=True):
        [thread], [question] = told(reader, thread_id=thread_id)
        at = max(datetime.fromisoformat(time), datetime.fromisoformat("1970-01-01T00:00:00+00:00"))
        assert (thread.created_at, thread.updated_at, question.created_at) == (at, at, at)
        assert (thread.error, question.error) == (None, None)


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("listing", ["threads", "interrupts"])
def test_a_listing_goes_on_behind_any_time(
    listing: str, order: str, old: InMemorySaver, saver: RedisSaver, reader: RedisSaver
) -> None:
    imported(old, saver)
    going: Callable[..., Iterator[Any]] = getattr(reader, listing)
    seen: list[str] = []
    after = None
    while some := [*going(order=order, limit=2, after=after)]:
        seen += [found.thread_id for found in some]
        after = some[-1].cursor
    assert seen == (THREADS if order == "oldest" else THREADS[::-1])


@pytest.mark.parametrize("time", TIMES)
def test_a_thread_of_any_time_is_written_to_copied_and_deleted(
    time: str, saver: RedisSaver, reader: RedisSaver, sqlite: SQLiteSaver, raw: Any, prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def at(moment: int) -> None:
        monkeypatch.setattr("checkpoint_base.saver.now", lambda: moment)

    moment = microseconds(datetime.fromisoformat(time))
    checkpoints: list[Any] = [empty_checkpoint(), empty_checkpoint()]
    for each in (saver, sqlite):
        config = config_of("thread", checkpoints[0]["id"])
        at(moment)
        # The question before its checkpoint, so that the script finds it among what is stored.
        each.put_writes(config, [("__interrupt__", [Interrupt("go on?", id="1")])], "task")
        assert told(each) == ([], [])
        each.put(config_of("thread"), checkpoints[0], {"source": "loop", "step": 1}, {})
        at(moment + 1 if moment % 2 else max(0, moment - 1))  # another clock is ahead, or behind
        each.put_writes(config, [("__interrupt__", [Interrupt("and here?", id="2")])], "other task")
        each.copy_thread("thread", "copy")
    assert told(reader) == told(sqlite)
    assert [len(found) for found in told(reader)] == [2, 4]
    assert told(reader, thread_id="copy") == told(sqlite, thread_id="copy")
    for each in (saver, sqlite):
        each.put_writes(config, [("__resume__", "yes")], "task")
        each.put(config, checkpoints[1], {"source": "loop", "step": 2}, {})
        each.prune(["thread"])
    assert told(reader) == told(sqlite)
    assert [len(found) for found in told(reader)] == [2, 2]
    for thread_id in ("thread", "copy"):
        saver.delete_thread(thread_id)
    left = {member for index in raw.scan_iter(match=f"{prefix}*:index") for member in raw.zrange(index, 0, -1)}
    assert left == {b""}


def test_a_thread_of_any_time_is_transferred_with_it(
    old: InMemorySaver, saver: RedisSaver, reader: RedisSaver, sqlite: SQLiteSaver
) -> None:
    imported(old, saver)
    for thread_id in THREADS:
        assert transfer(reader, sqlite, thread_id) == 1
    assert told(sqlite) == told(reader)
