"""Several processes, each with threads and event loops, on shared threads and on threads of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from checkpoint_base import open_saver
from tests.faults.backends import Backend
from tests.faults.figures import Figures
from tests.faults.history import Event, begin, unexplained
from tests.faults.worker import PATIENCE, Processes

PROCESSES = 3
IN_THREADS = 4
IN_LOOPS = 3
"""Tasks in each of two event loops of each process."""


def raced(
    processes: Processes,
    backend: Backend,
    *,
    seed: str,
    calls: int,
    url: str = "",
    deadline: float = 30,
    strike: Callable[[], None] | None = None,
    most: int = 1000,
) -> Figures:
    """Let processes race on the backend, or on it through another URL, and check their history.

    Meanwhile ``strike`` is called over and over, at least once and at most so often.
    """
    shared = [f"shared-{n}" for n in range(2)]
    with open_saver(backend.url) as saver:
        for thread in shared:
            begin(saver, thread)
        job = {
            "do": "race",
            "url": url or backend.url,
            "threads": shared,
            "calls": calls,
            "seed": seed,
            "in_threads": IN_THREADS,
            "in_loops": IN_LOOPS,
            "at": time.monotonic() + 0.3,
            "deadline": deadline,
        }
        figures = Figures()
        with _striking(strike, most, figures):
            answers = processes.do(*({**job, "name": f"process-{n}"} for n in range(PROCESSES)))
        events = []
        for answer in answers:
            if answer.error or answer.exit:
                figures.losses.append(f"{backend.name}, racing: {answer} (a deadlock, if after {PATIENCE} s)")
                continue
            figures.losses += [f"{backend.name}, racing: {error}" for error in answer.result["errors"]]
            events += [Event(*event) for event in answer.result["events"]]
        figures.operations = len(events)
        figures.losses += [f"{backend.name}, racing: {finding}" for finding in unexplained(events)]
        for info in list(saver.threads()):
            saver.delete_thread(info.thread_id)
    if left := backend.leftovers():
        figures.losses.append(f"{backend.name}, racing: every thread was deleted; left are {left}")
    give_up_at = time.monotonic() + 60  # a server takes a moment to notice
    while (connections := backend.connections()) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    if connections:
        figures.losses.append(f"{backend.name}, racing: {connections} connections were left open")
    return figures


@contextmanager
def _striking(strike: Callable[[], None] | None, most: int, figures: Figures) -> Iterator[None]:
    """While the block runs, call ``strike`` repeatedly on another thread; then wait for the last call to return."""
    if strike is None:
        yield
        return
    ended = threading.Event()

    def work() -> None:
        ended.wait(0.4)  # until the callers are at work
        while figures.faults < most:
            try:
                strike()
            except Exception as error:
                figures.losses.append(f"the fault itself failed: {type(error).__name__}: {error}")
                return
            figures.faults += 1
            if ended.wait(0.1):
                return

    striking = threading.Thread(target=work)
    striking.start()
    try:
        yield
    finally:
        ended.set()
        striking.join()
