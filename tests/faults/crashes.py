"""Kill processes at every request, let others continue, and report what was lost."""

from __future__ import annotations

import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from checkpoint_base import open_saver
from conformance_tests.worker import entries
from tests.faults.backends import Backend
from tests.faults.figures import Figures
from tests.faults.flow import FINAL
from tests.faults.worker import KILLED, Answer, Processes, done_again

DURABILITIES = ("sync", "async", "exit")
COLOURS = ("sync", "async")

AT_ONCE = 4

Death: TypeAlias = dict[str, Any]
"""``kill``: before or after which request a process ends itself; or ``kill_after``: seconds until SIGKILL."""

_numbers = count()


@dataclass(frozen=True, slots=True)
class Whole:
    """An undisturbed run, with which others are compared."""

    requests: int
    seconds: float
    states: list[Any]


class Runs:
    """Runs of the graph on one backend, in one durability and colour."""

    def __init__(self, processes: Processes, backend: Backend, durability: str, colour: str) -> None:
        self.processes = processes
        self.backend = backend
        self.durability = durability
        self.colour = colour

    def whole(self) -> Whole:
        """Run undisturbed; the number of requests is what there is to be killed at."""
        with TemporaryDirectory() as folder:
            job = self._job(folder)
            [answer] = self.processes.do(job)
            if answer.error or answer.result["problems"] or answer.result["state"] != FINAL:
                raise AssertionError(f"{self} without a crash: {answer}")
            if left := self._delete([job["thread"]]):
                raise AssertionError(left)
            return Whole(answer.result["requests"], answer.result["seconds"], answer.result["states"])

    def crashed(self, whole: Whole, plans: Sequence[Sequence[Death]]) -> Figures:
        """Carry out plans, each some deaths in a row and then a process that finishes; then delete the threads.

        Always: each new process finds what was acknowledged, a state that an undisturbed run has had, and listings
        that agree; nothing acknowledged is done again; the final state is the undisturbed run's; and in the end the
        store is empty.
        """
        figures = Figures()
        with TemporaryDirectory() as folder:
            for first in range(0, len(plans), AT_ONCE):
                some = plans[first : first + AT_ONCE]
                jobs = [self._job(folder) for _ in some]
                for number in range(max(map(len, some))):
                    dying = [n for n, plan in enumerate(some) if number < len(plan)]
                    answers = self.processes.do(*({**jobs[n], **some[n][number]} for n in dying))
                    for n, answer in zip(dying, answers, strict=True):
                        figures.crashes += answer.exit in (KILLED, -signal.SIGKILL)
                        if answer.exit not in (KILLED, -signal.SIGKILL, 0) or answer.error:
                            figures.losses.append(f"{self}, {some[n][: number + 1]}: {answer}")
                        elif answer.exit == 0:
                            figures.losses += self._lost(answer, whole, some[n][:number], jobs[n]["journal"])
                for plan, job, answer in zip(some, jobs, self.processes.do(*jobs), strict=True):
                    figures.operations += sum("stored" in entry for entry in entries(job["journal"]))
                    figures.losses += self._lost(answer, whole, plan, job["journal"])
                figures.losses += self._delete([job["thread"] for job in jobs])
        return figures

    def _lost(self, answer: Answer, whole: Whole, plan: Sequence[Death], journal: str) -> list[str]:
        """Return what is wrong with a run that continued after some deaths."""
        if answer.error or answer.exit != 0:
            return [f"{self}, {plan}: {answer}"]
        result, lost = answer.result, list(answer.result["problems"])
        if result["state"] != FINAL:
            lost.append(f"the final state is {result['state']}")
        lost += [
            f"a state was found that no undisturbed run has: {one}"
            for one in result["first"]
            if one not in whole.states
        ]
        lost += [f"{what} was acknowledged and done again" for what in done_again(journal)]
        return [f"{self}, {plan}: {one}" for one in lost]

    def _delete(self, threads: Sequence[str]) -> list[str]:
        """Delete threads; anything left over is a loss."""
        with open_saver(self.backend.url) as saver:
            for thread in threads[::2]:
                saver.delete_thread(thread)
            saver.prune(threads[1::2], strategy="delete")
            listed = [info.thread_id for info in saver.threads()]
        left = self.backend.leftovers()
        return [f"{self}: {threads} were deleted; left are {left}, listed {listed}"] if left or listed else []

    def _job(self, folder: str) -> dict[str, Any]:
        thread = f"crash-{next(_numbers)}"
        return {
            "do": "run",
            "url": self.backend.url,
            "thread": thread,
            "journal": str(Path(folder) / thread),
            "durability": self.durability,
            "colour": self.colour,
        }

    def __str__(self) -> str:
        return f"{self.backend.name}, durability {self.durability}, {self.colour}"


def every_request(whole: Whole) -> list[list[Death]]:
    """Return two plans for each request: to die before it, and after it."""
    return [[{"kill": [moment, n]}] for n in range(1, whole.requests + 1) for moment in ("before", "after")]


def from_outside(whole: Whole, chance: random.Random, number: int) -> list[list[Death]]:
    """Return ``number`` plans of three deaths in a row by SIGKILL, each at any moment of a run."""
    return [[{"kill_after": chance.uniform(0.01, whole.seconds)} for _ in range(3)] for _ in range(number)]


def spread(plans: Sequence[list[Death]], most: int, first: int = 0) -> list[list[Death]]:
    """Return at most ``most`` of the plans, evenly spaced."""
    return list(plans[first :: max(1, -(-len(plans) // most))])
