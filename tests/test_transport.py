"""Driving operations, and repeating what a store could not answer."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

from checkpoint_base import StoreUnavailable, UnsupportedOperation
from checkpoint_base.perloop import PerLoop
from checkpoint_base.transport import Operation, Retrying, _pauses, arun, run


class Echo:
    """Answers with the request; fails as often as it is told to."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
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


def test_what_is_unavailable_is_tried_again_until_it_answers() -> None:
    for drive in (run, lambda operation, transport: asyncio.run(arun(operation, transport))):
        echo = Echo(failures=4)
        assert drive(adding(7), Retrying(echo, deadline=10)) == 7
        assert echo.attempts == 5


def test_only_what_is_unavailable_is_tried_again() -> None:
    echo = Echo(failures=1, error=UnsupportedOperation("no"))
    with pytest.raises(UnsupportedOperation):
        run(adding(7), Retrying(echo, deadline=10))
    assert echo.attempts == 1


def test_a_deadline_of_zero_tries_once() -> None:
    echo = Echo(failures=1)
    with pytest.raises(StoreUnavailable):
        run(adding(7), Retrying(echo, deadline=0))
    assert echo.attempts == 1


def test_no_attempt_starts_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    attempts: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Down(Echo):
        def execute(self, request: Any) -> Any:
            attempts.append(now)
            raise StoreUnavailable("down")

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(StoreUnavailable):
        run(adding(1), Retrying(Down(), deadline=20))
    assert attempts[-1] < 20
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert max(pauses) <= 1.0
    assert 20 <= len(attempts) <= 60


def test_the_deadline_counts_from_the_call_and_not_from_its_first_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    class Slow:
        def execute(self, request: Any) -> Any:
            nonlocal now
            attempts.append(now)
            now += 5
            raise StoreUnavailable("it has not answered for 5 seconds")

    attempts: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(StoreUnavailable):
        run(adding(1), Retrying(Slow(), deadline=3))  # type: ignore[arg-type]
    assert attempts == [0.0]


def test_pauses_grow_and_differ_between_clients() -> None:
    random.seed(1)
    one, other = ([next(pauses) for _ in range(8)] for pauses in (_pauses(math.inf), _pauses(math.inf)))
    assert one != other
    assert one[-1] > 10 * one[0]
    assert all(pause <= 0.02 * 2**number for number, pause in enumerate(one))


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_is_made_for_a_loop_while_everything_is_closed_is_closed_too(colour: str) -> None:
    closed: list[str] = []

    async def work() -> None:
        is_made = asyncio.Event()

        async def make() -> str:
            await is_made.wait()
            return "resource"

        async def close(resource: str) -> None:
            closed.append(resource)

        each = PerLoop(make, close, closed.append)
        callers = [asyncio.ensure_future(each.get()) for _ in range(3)]
        await asyncio.sleep(0)
        if colour == "sync":
            each.close()
        else:
            await each.aclose()
        is_made.set()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {UnsupportedOperation}

    asyncio.run(work())
    assert closed == ["resource"]


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("end", ["cancels what is left", "only stops"])
@pytest.mark.timeout(20)
def test_what_is_being_closed_on_a_loop_that_ends_meanwhile_is_abandoned(end: str, colour: str) -> None:
    is_made, is_closing, abandoned = threading.Event(), asyncio.Event(), list[str]()

    async def make() -> str:
        return "resource"

    async def close(_: str) -> None:
        is_closing.set()
        await asyncio.sleep(60)

    each = PerLoop(make, close, abandoned.append)

    async def work() -> None:
        await each.get()
        is_made.set()
        await is_closing.wait()

    loop = asyncio.new_event_loop()
    run_to_its_end = asyncio.run if end == "cancels what is left" else loop.run_until_complete
    thread = threading.Thread(target=lambda: run_to_its_end(work()))
    thread.start()
    is_made.wait()
    if colour == "sync":
        each.close()
    else:
        asyncio.run(each.aclose())
    thread.join()
    assert abandoned == ["resource"]
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
