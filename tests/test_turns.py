"""Turns of async callers at connections: in order, for as long as the line moves, and none is lost."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from checkpoint_base import turns as module
from checkpoint_base.turns import NoTurn, Turns

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


class Clock(selectors.SelectSelector):
    """Waits for nothing: the time passes by itself, to when something is to happen."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        Clock.now += timeout or 0
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose seconds a busy machine does not change."""

    def __init__(self) -> None:
        super().__init__(Clock())

    def time(self) -> float:
        return Clock.now


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: Clock.now))

    def running(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(asyncio.wait_for(main, 60))

    return running


def test_so_many_callers_have_a_turn_at_a_time_and_the_others_in_the_order_in_which_they_came(run: Run) -> None:
    served: list[int] = []
    inside = most = 0

    async def call(turns: Turns, number: int) -> None:
        nonlocal inside, most
        async with turns.turn(seconds=30):
            inside += 1
            most = max(most, inside)
            served.append(number)
            await asyncio.sleep(0)
            inside -= 1

    async def main() -> None:
        turns = Turns(3)
        await asyncio.gather(*(call(turns, number) for number in range(100)))

    run(main())
    assert served == [*range(100)]
    assert most == 3


def test_a_caller_keeps_its_place_while_others_are_served_however_long_that_takes(run: Run) -> None:
    async def call(turns: Turns) -> None:
        async with turns.turn(seconds=0.2):
            await asyncio.sleep(0.05)

    async def main() -> None:
        turns = Turns(1)
        began = Clock.now
        await asyncio.gather(*(call(turns) for _ in range(20)))
        assert Clock.now - began == pytest.approx(20 * 0.05)

    run(main())


@pytest.mark.parametrize("fails", [True, False])
def test_whoever_waits_while_nobody_is_served_gives_up(fails: bool, run: Run) -> None:
    async def occupy(turns: Turns) -> None:
        async with turns.turn(seconds=30):
            await asyncio.sleep(0.05 if fails else 1)
            raise OSError

    async def call(turns: Turns) -> float:
        began = Clock.now
        with pytest.raises(NoTurn):
            async with turns.turn(seconds=0.3):
                raise AssertionError("had a turn")
        return Clock.now - began

    async def main() -> None:
        turns = Turns(2)
        busy = [asyncio.ensure_future(occupy(turns)) for _ in range(40 if fails else 2)]
        await asyncio.sleep(0)
        waited = await asyncio.gather(*(call(turns) for _ in range(50)))
        assert waited == pytest.approx([0.3] * 50)
        await asyncio.gather(*busy, return_exceptions=True)
        async with turns.turn(seconds=0), turns.turn(seconds=0):  # nobody who gave up has kept one
            pass

    run(main())


def test_a_turn_of_a_cancelled_caller_goes_to_the_next(run: Run) -> None:
    chance = random.Random(1)
    served = inside = most = 0

    async def call(turns: Turns) -> None:
        nonlocal served, inside, most
        async with turns.turn(seconds=30):
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(0)
            finally:
                inside -= 1
            served += 1

    async def main() -> None:
        turns = Turns(2)
        calls = [asyncio.ensure_future(call(turns)) for _ in range(1000)]
        for each in chance.sample(calls, 500):
            if chance.random() < 0.5:
                await asyncio.sleep(0)
            each.cancel()  # some while they wait, some at the moment at which their turn comes, some while they have it
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert served == found.count(None) >= 500
        assert most == 2
        async with turns.turn(seconds=0), turns.turn(seconds=0):
            pass
        with pytest.raises(NoTurn):
            async with turns.turn(seconds=0), turns.turn(seconds=0), turns.turn(seconds=0):
                pass

    run(main())
