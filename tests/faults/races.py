"""Several processes, each with threads and event loops, on shared threads and on threads of their own."""

from __future__ import annotations

import time

from checkpoint_base import open_saver
from tests.faults.backends import Backend
from tests.faults.figures import Figures
from tests.faults.history import Event, begin, unexplained
from tests.faults.worker import PATIENCE, Processes

PROCESSES = 3
IN_THREADS = 4
IN_LOOPS = 3
"""Tasks in each of two event loops of each process."""


def raced(processes: Processes, backend: Backend, *, seed: str, calls: int, url: str = "") -> Figures:
    """Let processes race on the backend, or on it through another URL, and check their history."""
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
        }
        answers = processes.do(*({**job, "name": f"process-{n}"} for n in range(PROCESSES)))
        figures = Figures()
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
    if connections := backend.connections():
        figures.losses.append(f"{backend.name}, racing: {connections} connections were left open")
    return figures
