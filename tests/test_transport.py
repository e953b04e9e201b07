"""Driving operations, and repeating what a store could not answer."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import pytest

from checkpoint_base import CorruptCheckpoint, StoreUnavailable, UnsupportedOperation
from checkpoint_base.transport import Operation, Retrying, Transport, _pauses, arun, for_each, run

Drive: TypeAlias = Callable[[Operation[Any], Transport], Any]

in_both_colours = pytest.mark.parametrize(
    "drive", [run, lambda operation, transport: asyncio.run(arun(operation, transport))], ids=["sync", "async"]
)


class Echo:
    """Answers with the request; fails as often as it is told to."""

    def __init__(self, failures: int = 0, error: BaseException | None = None) -> None:
        self.failures = failures
        self.error = error or StoreUnavailable("not now")
        self.attempts = 0

    def execute(self, request: Any) -> Any:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self.error
        return request

    async def aexecute(self, request: Any) -> Any:
        return self.execute(request)

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


def adding(*numbers: int) -> Operation[int]:
    total = 0
    for number in numbers:
        total += yield number
    return total


def recovering() -> Operation[str]:
    try:
        yield 1
    except StoreUnavailable:
        return (yield "recovered")
    return "never"


def test_an_operation_gives_the_same_in_both_colours() -> None:
    for operation in (lambda: adding(1, 2, 3), lambda: adding(), recovering):
        failures = 1 if operation is recovering else 0
        assert run(operation(), Echo(failures)) == asyncio.run(arun(operation(), Echo(failures)))
    assert run(adding(1, 2, 3), Echo()) == 6
    assert run(recovering(), Echo(1)) == "recovered"


def test_an_error_of_the_transport_is_raised_through_the_operation() -> None:
    with pytest.raises(StoreUnavailable):
        run(adding(1), Echo(1))
    with pytest.raises(StoreUnavailable):
        asyncio.run(arun(adding(1), Echo(1)))


@in_both_colours
def test_what_ends_a_request_is_raised_in_the_operation_even_if_it_is_no_exception(drive: Drive) -> None:
    class Stopped(BaseException):
        pass

    told: list[type] = []

    def operation() -> Operation[None]:
        try:
            yield 1
        except BaseException as error:
            told.append(type(error))
            raise

    with pytest.raises(Stopped):
        drive(operation(), Echo(1, Stopped()))
    assert told == [Stopped]


@in_both_colours
def test_damage_of_one_keeps_no_other_from_its_turn_and_the_first_is_told(drive: Drive) -> None:
    done: list[int] = []

    def act(number: int) -> Operation[None]:
        done.append((yield number))
        if number % 2:
            raise CorruptCheckpoint(f"{number} is damaged")

    with pytest.raises(CorruptCheckpoint, match=r"^1 is damaged$"):
        drive(for_each(range(5), act), Echo())
    assert done == [0, 1, 2, 3, 4]


@in_both_colours
def test_what_is_unavailable_is_tried_again_until_it_answers(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="checkpoint_base")
    echo = Echo(failures=4)
    assert drive(adding(7), Retrying(echo, deadline=10)) == 7
    assert echo.attempts == 5
    assert caplog.messages == ["trying again: not now"] * 4


@in_both_colours
def test_only_what_is_unavailable_is_tried_again(drive: Drive) -> None:
    echo = Echo(failures=1, error=UnsupportedOperation("no"))
    with pytest.raises(UnsupportedOperation):
        drive(adding(7), Retrying(echo, deadline=10))
    assert echo.attempts == 1


@in_both_colours
def test_a_deadline_of_zero_tries_once(drive: Drive) -> None:
    echo = Echo(failures=1)
    with pytest.raises(StoreUnavailable):
        drive(adding(7), Retrying(echo, deadline=0))
    assert echo.attempts == 1


@in_both_colours
def test_no_attempt_starts_after_the_deadline(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    attempts: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    class Down(Echo):
        def execute(self, request: Any) -> Any:
            attempts.append(now)
            assert len(attempts) < 100, "it does not wait"
            raise StoreUnavailable("down")

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(asyncio, "sleep", asleep)
    with pytest.raises(StoreUnavailable):
        drive(adding(1), Retrying(Down(), deadline=20))
    assert attempts[-1] < 20
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert max(pauses) <= 1.0
    assert 20 <= len(attempts) <= 60


@in_both_colours
def test_the_deadline_counts_from_the_call_and_not_from_its_first_failure(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    class Slow(Echo):
        def execute(self, request: Any) -> Any:
            nonlocal now
            attempts.append(now)
            now += 5
            raise StoreUnavailable("it has not answered for 5 seconds")

    attempts: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StoreUnavailable):
        drive(adding(1), Retrying(Slow(), deadline=3))
    assert attempts == [0.0]


def test_pauses_grow_and_differ_between_clients() -> None:
    random.seed(1)
    one, other = ([next(pauses) for _ in range(8)] for pauses in (_pauses(math.inf), _pauses(math.inf)))
    assert one != other
    assert one[-1] > 10 * one[0]
    assert all(pause <= 0.02 * 2**number for number, pause in enumerate(one))
