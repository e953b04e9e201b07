"""Servers that restart, fail over or go silent under load: nothing acknowledged is lost, and nothing is made up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import outages
from tests.faults.backends import Servers
from tests.faults.outages import RESTARTS, TROUBLES, Restarts, stopped, through_a_proxy
from tests.faults.races import IN_LOOPS, IN_THREADS, PROCESSES, raced
from tests.faults.worker import Processes

CALLS = 20


def check(servers: Servers, processes: Processes, restarts: Restarts, calls: int) -> None:
    with restarts(servers) as outage:
        figures = raced(
            processes, outage.backend, seed="outage", calls=calls, url=outage.url, deadline=outage.deadline,
            strike=outage.strike, most=outage.most,
        )  # fmt: skip
    figures.check()
    assert figures.faults >= 1
    # Reads that found no server are no part of the history.
    assert figures.operations > PROCESSES * (IN_THREADS + 2 * IN_LOOPS) * calls // 2


@pytest.mark.parametrize("name", RESTARTS)
def test_what_was_acknowledged_survives_a_server_that_ends(servers: Servers, processes: Processes, name: str) -> None:
    check(servers, processes, RESTARTS[name], CALLS)


@pytest.mark.parametrize(
    ("backend", "trouble"), [("postgres", "half-open"), ("redis", "messages lost or cut"), ("s3", "unreachable")]
)
def test_many_callers_get_over_trouble_on_the_way(
    servers: Servers, processes: Processes, backend: str, trouble: str
) -> None:
    happens, deadline = TROUBLES[trouble]
    check(servers, processes, through_a_proxy(backend, happens, deadline=deadline), 5 if backend == "s3" else CALLS)


def test_a_stopped_server_goes_on_even_if_one_of_its_processes_ended_meanwhile(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with servers.backend("postgres") as backend:
        assert backend.server is not None
        monkeypatch.setattr(outages, "_children", lambda _: [ended.pid])
        with stopped(backend):
            assert comes(lambda: is_stopped(backend.server.pid))
        assert comes(lambda: not is_stopped(backend.server.pid))


def is_stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("T")


def comes(what: Callable[[], bool]) -> bool:
    """Whether something is so within a minute: a signal takes a moment to arrive."""
    give_up_at = time.monotonic() + 60
    while not what() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return what()
