"""Connections that are cut, silent or slow, and servers that stop and start again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from checkpoint_base import CheckpointSaver, StoreUnavailable, open_saver
from tests.faults.acts import ACTS, acall, answered, call, config
from tests.faults.atomicity import calls_on
from tests.faults.backends import ServerBackend, Servers
from tests.faults.crashes import COLOURS
from tests.faults.outages import CUTS, stopped
from tests.faults.proxy import Fault, Proxy

SERVED = ("postgres", "redis", "s3")


@pytest.fixture(params=SERVED)
def backend(request: pytest.FixtureRequest, servers: Servers) -> Iterator[ServerBackend]:
    """An empty store of each backend that has a server."""
    with servers.backend(request.param) as opened, opened.impatient():
        yield opened


@pytest.fixture
def proxy(backend: ServerBackend) -> Iterator[Proxy]:
    with Proxy(*backend.address) as running:
        yield running


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@contextmanager
def opened(backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, deadline: float) -> Iterator[CheckpointSaver]:
    """A saver through the proxy, for calls of both colours."""
    saver = open_saver(backend.url_through(proxy.host, proxy.port), deadline=deadline)
    _eventually(lambda: _is_set_up(saver))  # it is as impatient with a busy machine as with a silent one
    try:
        yield saver
    finally:
        proxy.thaw()
        runner.run(saver.aclose())


@pytest.mark.parametrize("colour", COLOURS)
def test_a_cut_connection_leaves_a_call_done_or_not_done(
    backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, colour: str
) -> None:
    at = COLOURS.index(colour)
    with opened(backend, proxy, runner, deadline=0) as through, calls_on(backend) as calls:
        figures = calls.disturbed(
            proxy, through, ACTS[at::2], CUTS, colour, runner, most=backend.most(16), every_fault=False
        )
    figures.check()
    assert figures.faults >= 4


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_that_says_nothing_is_unavailable(
    backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, colour: str
) -> None:
    acts = [act for act in ACTS if act.name in ("put", "get_tuple")]
    with opened(backend, proxy, runner, deadline=0) as through, calls_on(backend) as calls:
        figures = calls.disturbed(proxy, through, acts, [Fault.SILENCE], colour, runner, most=3)
    figures.check()
    assert figures.faults >= 2


@pytest.mark.parametrize("colour", COLOURS)
def test_within_its_deadline_a_saver_gets_over_every_fault(
    backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, colour: str
) -> None:
    with opened(backend, proxy, runner, deadline=20) as through, calls_on(backend) as calls:
        for number, act in enumerate(ACTS[COLOURS.index(colour) :: 2 * backend.pace]):
            thread = calls.new_thread()
            calls.warm(through, colour, runner)
            if number % 3:
                proxy.arm(CUTS[number % len(CUTS)])
            else:
                proxy.reset()
            answer = answered(calls.made(through, act.step(thread), colour, runner), thread)
            assert answer == calls.expected[act.name].answer, act.name
            proxy.disarm()
            assert calls.clear([thread]) == []


def test_latency_changes_no_answer(backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner) -> None:
    with opened(backend, proxy, runner, deadline=20) as through, calls_on(backend) as calls:
        proxy.latency = 0.02
        for act in ACTS[:: 2 * backend.pace]:
            thread = calls.new_thread()
            for colour in COLOURS:  # the second repeats the first
                answer = answered(calls.made(through, act.step(thread), colour, runner), thread)
                assert answer == calls.expected[act.name].answer, act.name
            assert calls.clear([thread]) == []


@pytest.mark.parametrize("colour", COLOURS)
def test_what_cannot_be_reached_is_unavailable_within_the_deadline_and_never_empty(
    backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, colour: str
) -> None:
    with opened(backend, proxy, runner, deadline=1) as through, calls_on(backend) as calls:
        thread = calls.new_thread()
        calls.warm(through, colour, runner)
        proxy.refuse = True
        proxy.reset()
        # Long enough for pauses between attempts to grow; one that doubles for ever would miss the server's return.
        for act in ACTS[COLOURS.index(colour) :: 4]:
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                calls.made(through, act.step(thread), colour, runner)
            assert time.monotonic() - began < 25, act.name  # and not the 30 seconds of savers that are told nothing
        proxy.refuse = False
        step, give_up_at = ("get_tuple", [config(thread)]), time.monotonic() + 60
        while True:
            try:
                answer = answered(calls.made(through, step, colour, runner), thread)
                break
            except StoreUnavailable:  # its deadline is shorter than a pool's pauses may be
                assert time.monotonic() < give_up_at
        assert answer == calls.expected["get_tuple"].answer
        assert calls.clear([thread]) == []


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stopped_server_is_unavailable_until_it_continues(
    backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, colour: str
) -> None:
    """SIGSTOP, as of a machine that is suspended: connections stay open, and are even accepted."""
    with opened(backend, proxy, runner, deadline=0) as through, calls_on(backend) as calls:
        thread = calls.new_thread()
        calls.warm(through, colour, runner)
        put = next(act for act in ACTS if act.name == "put")
        with stopped(backend):
            for act in (put, next(act for act in ACTS if act.name == "get_tuple")):
                began = time.monotonic()
                with pytest.raises(StoreUnavailable):
                    calls.made(through, act.step(thread), colour, runner)
                assert time.monotonic() - began < 25, act.name
        assert calls.repeated(put, thread, through, colour, runner, "after it continued") == []
        assert calls.clear([thread]) == []


@pytest.mark.parametrize("colour", COLOURS)
def test_cancelled_and_timed_out_calls_leave_no_connection_and_no_lock(
    backend: ServerBackend, proxy: Proxy, runner: asyncio.Runner, colour: str
) -> None:
    """Async calls are cancelled at any moment; sync ones lose their connection instead, many at a time."""
    with calls_on(backend) as calls:
        thread = calls.new_thread()
        before = backend.connections()
        with opened(backend, proxy, runner, deadline=0) as through:
            proxy.latency = 0.003
            if colour == "async":
                runner.run(_cancelled(through, thread))
            else:
                _interrupted(through, thread, proxy)
            proxy.latency = 0.0
            calls.warm(through, colour, runner)
            assert backend.locks() == 0
            assert calls.repeated(ACTS[0], thread, through, colour, runner, "after many were cancelled") == []
        _eventually(lambda: backend.connections() <= before)
        assert calls.clear([thread]) == []


async def _cancelled(saver: CheckpointSaver, thread: str) -> None:
    for number in range(20):
        tasks = [asyncio.ensure_future(acall(saver, act.step(thread))) for act in (ACTS[0], ACTS[2], ACTS[12])]
        await asyncio.sleep(0.0014 * number)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert not isinstance(outcome, Exception), outcome


def _interrupted(saver: CheckpointSaver, thread: str, proxy: Proxy) -> None:
    wrong: list[Exception] = []

    def work() -> None:
        for _ in range(3):
            for act in (ACTS[0], ACTS[2], ACTS[12]):
                try:
                    call(saver, act.step(thread))
                except StoreUnavailable:
                    continue
                except Exception as error:
                    wrong.append(error)

    working = [threading.Thread(target=work) for _ in range(24)]  # more than a pool has connections
    for one in working:
        one.start()
    while any(one.is_alive() for one in working):
        time.sleep(0.1)
        proxy.reset()
    for one in working:
        one.join()
    assert wrong == []


def _is_set_up(saver: CheckpointSaver) -> bool:
    with suppress(StoreUnavailable):
        saver.setup()
        return True
    return False


def _eventually(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
