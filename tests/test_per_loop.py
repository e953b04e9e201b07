"""Resources that belong to one event loop: made once, and closed with it."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from checkpoint_base import StoreUnavailable, UnsupportedOperation
from checkpoint_base.per_loop import OneLoop, PerLoop
from tests.forking import done_in_a_fork


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
            is_made.set()
        else:
            asyncio.get_running_loop().call_later(0.01, is_made.set)
            await each.aclose()
            assert closed == ["resource"]
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {UnsupportedOperation}

    asyncio.run(work())
    assert closed == ["resource"]


def test_closing_waits_for_what_is_being_made_though_its_caller_has_gone() -> None:
    """Otherwise a loop that ends right after would leave it open."""
    closed: list[str] = []

    async def make() -> str:
        await asyncio.sleep(0.05)
        return "resource"

    async def close(resource: str) -> None:
        closed.append(resource)

    async def work() -> None:
        each = PerLoop(make, close, closed.append)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(each.get(), 0.01)
        await each.aclose()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(work())
    assert closed == ["resource"]
    assert not asyncio.all_tasks(loop)
    loop.close()


@pytest.mark.timeout(20)
def test_closing_does_not_wait_for_what_another_loop_is_making() -> None:
    is_making, go_on, closed = threading.Event(), threading.Event(), list[str]()

    async def make() -> str:
        is_making.set()
        await asyncio.to_thread(go_on.wait)
        return "resource"

    async def close(resource: str) -> None:
        closed.append(resource)

    each = PerLoop(make, close, lambda _: None)

    async def work() -> None:
        with pytest.raises(UnsupportedOperation, match="closed in the meantime"):
            await each.get()

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    is_making.wait()
    try:
        asyncio.run(each.aclose())
        assert closed == []
    finally:
        go_on.set()
        thread.join()
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


def test_a_resource_is_made_though_the_first_caller_is_cancelled() -> None:
    async def work() -> None:
        made: list[int] = []

        async def make() -> int:
            made.append(len(made))
            await asyncio.sleep(0.01)
            return made[-1]

        async def close(_: int) -> None: ...

        each = PerLoop(make, close, lambda _: None)
        callers = [asyncio.ensure_future(each.get()) for _ in range(3)]
        await asyncio.sleep(0)
        callers[0].cancel()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert outcomes[1:] == [0, 0]
        assert await each.get() == 0

    asyncio.run(work())


def test_whoever_is_cancelled_while_another_makes_a_resource_disturbs_nobody() -> None:
    async def work() -> None:
        async def make() -> str:
            await asyncio.sleep(0.01)
            return "resource"

        async def close(_: str) -> None: ...

        each = PerLoop(make, close, lambda _: None)
        callers = [asyncio.ensure_future(each.get()) for _ in range(3)]
        await asyncio.sleep(0)
        callers[1].cancel()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert isinstance(outcomes.pop(1), asyncio.CancelledError)
        assert outcomes == ["resource", "resource"]

    asyncio.run(work())


@pytest.mark.parametrize("callers", [0, 1, 3])
def test_what_cannot_be_made_is_an_error_for_all_who_wait_and_is_tried_anew_by_the_next(
    callers: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        attempts = 0

        async def make() -> str:
            nonlocal attempts
            attempts += 1
            await asyncio.sleep(0)
            if attempts == 1:
                raise OSError
            return "resource"

        async def close(_: str) -> None: ...

        each = PerLoop(make, close, lambda _: None)
        gone = asyncio.ensure_future(each.get())
        waiting = [asyncio.ensure_future(each.get()) for _ in range(callers)]
        await asyncio.sleep(0)
        gone.cancel()
        outcomes = await asyncio.gather(gone, *waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] + [OSError] * callers
        await asyncio.sleep(0.01)  # until it has failed even if nobody waits
        assert await each.get() == "resource"

    gc.collect()  # what other tests have left
    caplog.clear()
    asyncio.run(work())
    gc.collect()
    assert caplog.messages == []  # asyncio would say that an exception was never retrieved


class Numbers:
    """Resources for event loops, 0, 1, 2 and so on, and what became of them."""

    def __init__(self) -> None:
        self._next = iter(range(10))
        self.closed: list[int] = []
        self.abandoned: list[int] = []
        self.each = PerLoop(self._make, self._close, self.abandoned.append)

    async def _make(self) -> int:
        return next(self._next)

    async def _close(self, resource: int) -> None:
        self.closed.append(resource)


def test_what_belongs_to_the_running_loop_is_closed_there_and_abandoned_by_a_sync_caller() -> None:
    numbers = Numbers()

    async def work() -> None:
        each = numbers.each
        assert await each.get() == 0
        await each.aclose()
        assert await each.get() == 1
        each.close()

    asyncio.run(work())
    assert (numbers.closed, numbers.abandoned) == ([0], [1])


def test_what_was_made_for_a_loop_is_closed_at_the_end_of_its_run() -> None:
    numbers = Numbers()
    assert [asyncio.run(numbers.each.get()) for _ in range(3)] == [0, 1, 2]
    assert numbers.closed == [0, 1, 2]
    numbers.each.close()
    assert (numbers.closed, numbers.abandoned) == ([0, 1, 2], [])


def test_what_was_made_for_loops_that_were_just_closed_is_abandoned_at_the_next_call_on_another() -> None:
    numbers = Numbers()
    loops = [asyncio.new_event_loop() for _ in range(3)]
    assert [loop.run_until_complete(numbers.each.get()) for loop in loops] == [0, 1, 2]
    loops[0].close()
    assert loops[1].run_until_complete(numbers.each.get()) == 1
    assert numbers.abandoned == [0]
    loops[1].close()
    numbers.each.abandon_ended()
    assert numbers.abandoned == [0, 1]
    loops[2].close()
    numbers.each.close()
    assert (numbers.closed, numbers.abandoned) == ([], [0, 1, 2])


def test_what_was_closed_before_the_end_of_its_run_is_closed_once() -> None:
    numbers = Numbers()

    async def work() -> None:
        await numbers.each.get()
        await numbers.each.aclose()
        await numbers.each.get()
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)
        assert numbers.closed == [0]

    asyncio.run(work())
    assert numbers.closed == [0, 1]


def test_a_forked_process_that_ends_its_parents_loop_leaves_what_the_parent_has_open() -> None:
    numbers = Numbers()
    with asyncio.Runner() as runner:

        def end() -> None:
            runner.close()
            assert numbers.closed == []

        runner.run(numbers.each.get())
        done_in_a_fork(end)
    assert numbers.closed == [0]


def test_the_end_of_a_run_waits_for_a_generator_that_still_uses_what_was_made() -> None:
    seen: list[str] = []

    async def make() -> str:
        return "resource"

    async def close(resource: str) -> None:
        seen.append(f"closed {resource}")

    each = PerLoop(make, close, seen.append, lambda _: "done" not in seen)

    async def storing_at_its_end() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            seen.append("begun")
            assert await each.get() == "resource"
            await asyncio.sleep(0.05)
            seen.append("done")

    async def work() -> None:
        await anext(unfinished)
        await each.get()

    unfinished = storing_at_its_end()
    asyncio.run(work())
    assert seen == ["begun", "done", "closed resource"]


def test_the_end_of_a_run_waits_no_longer_than_it_may_for_what_stays_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkpoint_base.per_loop.ENDING_SECONDS", 0.0)
    looks: list[str] = []
    closed: list[str] = []

    async def make() -> str:
        return "resource"

    async def close(resource: str) -> None:
        closed.append(resource)

    def is_busy(resource: str) -> bool:
        looks.append(resource)
        return len(looks) < 5

    asyncio.run(PerLoop(make, close, lambda _: None, is_busy).get())
    assert (looks, closed) == (["resource"], ["resource"])


def test_nothing_of_a_loop_that_was_closed_is_kept() -> None:
    numbers = Numbers()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(numbers.each.get())
    loop.close()
    numbers.each.abandon_ended()
    closed = weakref.ref(loop)
    del loop
    gc.collect()
    assert closed() is None


def test_whoever_waits_for_what_is_cancelled_while_it_is_made_does_not_wait_for_ever() -> None:
    async def make() -> str:
        raise asyncio.CancelledError

    async def close(_: str) -> None: ...

    async def work() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(PerLoop(make, close, lambda _: None).get(), 5)

    asyncio.run(work())


def test_closing_is_not_disturbed_by_what_fails_to_be_made_at_the_same_moment() -> None:
    is_making, is_closing, has_failed = threading.Event(), threading.Event(), threading.Event()

    class Handing:
        """A lock after whose release by the closing thread the other one goes on first."""

        lock = threading.Lock()

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if threading.current_thread() is threading.main_thread():
                is_closing.set()
                has_failed.wait(10)

    async def make() -> str:
        is_making.set()
        await asyncio.to_thread(is_closing.wait)
        raise StoreUnavailable("not now")

    async def close(_: str) -> None: ...

    async def work() -> None:
        with pytest.raises(StoreUnavailable):
            await each.get()
        has_failed.set()

    each = PerLoop(make, close, lambda _: None)
    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    is_making.wait()
    changing: Any = Handing()
    each._changing = changing
    each.close()
    thread.join()
    assert has_failed.is_set()


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_an_error_of_closing_on_another_loop_is_raised(colour: str) -> None:
    is_made, is_done = threading.Event(), threading.Event()

    async def make() -> str:
        return "resource"

    async def close(_: str) -> None:
        raise OSError("it does not close")

    each = PerLoop(make, close, lambda _: None)

    async def work() -> None:
        await each.get()
        is_made.set()
        await asyncio.to_thread(is_done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    is_made.wait()
    close_all = each.close if colour == "sync" else lambda: asyncio.run(each.aclose())
    try:
        with pytest.raises(OSError, match="does not close"):
            close_all()
    finally:
        is_done.set()
        thread.join()


def test_one_loop_is_let_in_until_it_ends() -> None:
    one = OneLoop("in use on another loop")

    async def use() -> None:
        one.check()
        one.check()
        with pytest.raises(UnsupportedOperation, match="in use on another loop"):
            await asyncio.to_thread(lambda: asyncio.run(check()))

    async def check() -> None:
        one.check()

    asyncio.run(use())
    asyncio.run(use())
