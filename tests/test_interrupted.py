"""What the handler of a signal raises reaches the caller as it is. So the time limits of Celery and RQ are made."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.types import Interrupt

from checkpoint_base import SQLiteSaver
from tests.conftest import CONFIG, config_of, put


class TimeLimit(Exception):
    """What the handler raises."""


@dataclass(frozen=True)
class Slow:
    """An element of a set. Whoever asks for its hash or its fields is interrupted, as often as `limits` says."""

    value: int

    def __hash__(self) -> int:
        interrupt_as_planned()
        return self.value

    def __getattribute__(self, name: str) -> Any:
        if name == "__dict__":
            interrupt_as_planned()
        return super().__getattribute__(name)


limits: list[None] = []


def interrupt_as_planned() -> None:
    if limits:
        limits.pop()
        signal.raise_signal(signal.SIGUSR1)


@pytest.fixture(autouse=True)
def _raising_handler() -> Iterator[None]:
    def reached(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGUSR1, reached)
    yield
    limits.clear()
    signal.signal(signal.SIGUSR1, before)


def test_a_time_limit_in_a_read_is_not_taken_for_damage(tmp_path: Any) -> None:
    with SQLiteSaver(tmp_path / "a.db") as saver:
        put(saver, {"a": {Slow(1)}})
        limits.append(None)
        with pytest.raises(TimeLimit):
            saver.get_tuple(CONFIG)
        found = saver.get_tuple(CONFIG)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"a": {Slow(1)}}


def test_a_time_limit_in_a_write_is_not_taken_for_a_refusal(tmp_path: Any) -> None:
    with SQLiteSaver(tmp_path / "a.db") as saver:
        value = [Slow(1)]
        limits.append(None)
        with pytest.raises(TimeLimit):
            put(saver, {"a": value})
        assert saver.get_tuple(CONFIG) is None


def test_a_time_limit_in_a_listing_is_not_taken_for_an_error_of_a_question(tmp_path: Any) -> None:
    with SQLiteSaver(tmp_path / "a.db") as saver:
        for name in ("one", "two"):
            stored = put(saver, {"a": 1}, config_of(name))
            saver.put_writes(stored, [("__interrupt__", (Interrupt({Slow(1)}, id=name),))], "task")
        limits.append(None)
        with pytest.raises(TimeLimit):
            list(saver.interrupts())
        assert [each.error for each in saver.interrupts()] == [None, None]
