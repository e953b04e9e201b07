"""Disturb single calls, and check that each happened entirely or not at all, and that repeating it is safe."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from checkpoint_base import CheckpointSaver, StoreUnavailable, open_saver
from tests.faults.acts import ACTS, Act, Expected, Step, acall, answered, call, config, expectations, grow, snapshot
from tests.faults.backends import Backend
from tests.faults.figures import Figures
from tests.faults.proxy import Fault, Proxy
from tests.faults.worker import KILLED, Processes

_numbers = count()

CHANGES = tuple(act for act in ACTS if not act.is_question)

_GIVES_UP_AFTER = 40
"""Requests, or pieces on a connection, within which a call should have ended."""


class Calls:
    """Calls on one backend, each on a thread of its own, compared with what is right."""

    def __init__(self, backend: Backend, saver: CheckpointSaver) -> None:
        self.backend = backend
        self.saver = saver
        self.expected = expectations()

    def killed(
        self, processes: Processes, acts: Iterable[Act], colour: str, *, most: int = 1000, first: int = 0
    ) -> Figures:
        """Kill a process before and after each request of a call (at most so many times), then repeat the call."""
        figures = Figures()
        for act in acts:
            undisturbed = self._job(act, self.new_thread(), colour)
            [whole] = processes.do(undisturbed)
            if whole.error or whole.exit:
                figures.losses.append(f"{self.backend.name}: {act.name}, {colour}: {whole}")
                continue
            figures.losses += self.clear([undisturbed["thread"]])
            kills = [[moment, n + 1] for n in range(whole.result["requests"]) for moment in ("before", "after")]
            kills = kills[first % len(kills) :: max(1, len(kills) // most)][:most]
            for at in range(0, len(kills), self.backend.removers):
                some = kills[at : at + self.backend.removers]
                threads = [self.new_thread() for _ in some]
                jobs = [self._job(act, thread, colour) for thread in threads]
                deaths = processes.do(*({**job, "kill": kill} for job, kill in zip(jobs, some, strict=True)))
                seen = [snapshot(self.saver, thread) for thread in threads]
                answers = processes.do(*jobs)
                for kill, thread, death, between, answer in zip(some, threads, deaths, seen, answers, strict=True):
                    situation = f"{self.backend.name}: {act.name}, killed {kill[0]} request {kill[1]}, {colour}"
                    figures.crashes += death.exit == KILLED
                    figures.operations += 2
                    if death.exit not in (KILLED, 0) or death.error or answer.error or answer.exit:
                        figures.losses.append(f"{situation}: {death}, then {answer}")
                    figures.losses += self._lost(act, thread, between, situation)
                figures.losses += self.clear(threads)
        return figures

    def _job(self, act: Act, thread: str, colour: str) -> dict[str, Any]:
        return {"do": "act", "url": self.backend.url, "thread": thread, "act": act.name, "colour": colour}

    def disturbed(
        self,
        proxy: Proxy,
        through: CheckpointSaver,
        acts: Iterable[Act],
        faults: Sequence[Fault],
        colour: str,
        runner: asyncio.Runner,
        *,
        most: int = 1_000_000,
        every_fault: bool = True,
    ) -> Figures:
        """Let a fault strike piece 1, 2, 3, … of a call, until a call gets through; then repeat the call.

        ``through`` goes through the proxy and tries once. Faults strike ``most`` times at most; unless ``every_fault``,
        each act meets one of them only, the next act the next.
        """
        figures = Figures()
        for number, act in enumerate(acts):
            for fault in faults if every_fault else [faults[number % len(faults)]]:
                after = 0
                for _ in range(_GIVES_UP_AFTER):
                    if figures.faults == most:
                        return figures
                    thread = self.new_thread()
                    self.warm(through, colour, runner)
                    struck = len(proxy.struck)
                    proxy.arm(fault, after=after)
                    situation = f"{self.backend.name}: {act.name}, {fault} (piece {after + 1}), {colour}"
                    began = time.monotonic()
                    is_answered, losses = self.tried(act, thread, through, colour, runner, situation)
                    figures.losses += losses
                    took = time.monotonic() - began
                    proxy.disarm()
                    between = self._settled(thread)
                    has_struck = len(proxy.struck) > struck
                    if took > 30:
                        figures.losses.append(f"{situation}: it took {took:.0f} s to say so")
                    figures.losses += self.repeated(act, thread, through, colour, runner, situation)
                    figures.losses += self._lost(act, thread, between, situation)
                    figures.losses += self.clear([thread])
                    figures.operations += 2
                    if has_struck:
                        figures.faults += 1
                        after += 1
                    elif is_answered:
                        break  # it has got through
        return figures

    def _settled(self, thread: str) -> str:
        """Return a snapshot once it no longer changes: a server may still be working for a connection that is gone."""
        before = snapshot(self.saver, thread)
        for _ in range(50):
            now = snapshot(self.saver, thread)
            if now == before:
                break
            before = now
        return before

    def warm(self, through: CheckpointSaver, colour: str, runner: asyncio.Runner) -> None:
        """Give ``through`` a working connection."""
        for _ in range(100):
            with contextlib.suppress(StoreUnavailable):
                self.made(through, ("get_tuple", [config("nobody")]), colour, runner)
                return
        raise AssertionError("no connection through the proxy")

    def tried(
        self, act: Act, thread: str, saver: CheckpointSaver, colour: str, runner: asyncio.Runner, situation: str
    ) -> tuple[bool, list[str]]:
        """Call: whether there was an answer, and what was lost: it may be the right one or `StoreUnavailable`."""
        try:
            answer = answered(self.made(saver, act.step(thread), colour, runner), thread)
        except StoreUnavailable:
            return False, []
        except Exception as error:
            return True, [f"{situation}: {type(error).__name__}: {error}"]
        return True, [] if answer == self.expected[act.name].answer else [f"{situation}: it answered {answer}"]

    def repeated(
        self, act: Act, thread: str, saver: CheckpointSaver, colour: str, runner: asyncio.Runner, situation: str
    ) -> list[str]:
        """Call again for as long as the store is unavailable because of the last fault."""
        for _ in range(100):
            with contextlib.suppress(StoreUnavailable):
                answer = answered(self.made(saver, act.step(thread), colour, runner), thread)
                return [] if answer == self.expected[act.name].answer else [f"{situation}, repeated: {answer}"]
        return [f"{situation}: the store stays unavailable"]

    @staticmethod
    def made(saver: CheckpointSaver, step: Step, colour: str, runner: asyncio.Runner) -> Any:
        return runner.run(acall(saver, step)) if colour == "async" else call(saver, step)

    def new_thread(self) -> str:
        """Make a grown thread. Its name always has the same length, so that listings have the same order."""
        thread = f"call-{next(_numbers):06}"
        grow(self.saver, thread)
        return thread

    def clear(self, threads: Sequence[str]) -> list[str]:
        """Delete threads and their neighbours; what is left is a loss."""
        for thread in threads:
            self.saver.delete_thread(thread)
            self.saver.delete_thread(f"{thread}-other")
        left = self.backend.leftovers()
        return [f"{self.backend.name}: {threads} were deleted; left are {left}"] if left else []

    def _lost(self, act: Act, thread: str, between: str, situation: str) -> list[str]:
        right = self.expected[act.name]
        lost = []
        if between not in (right.before, right.after):
            lost.append(f"{situation}: neither before nor after it: {_difference(between, right)}")
        if (then := snapshot(self.saver, thread)) != right.after:
            lost.append(f"{situation}, repeated: not as after it: {_difference(then, right)}")
        return lost


@contextlib.contextmanager
def calls_on(backend: Backend) -> Iterator[Calls]:
    with open_saver(backend.url) as saver:
        yield Calls(backend, saver)


def _difference(found: str, right: Expected) -> str:
    """Return where a snapshot differs from the right one, shortened."""
    at = next((n for n, (one, other) in enumerate(zip(found, right.after, strict=False)) if one != other), 0)
    return f"…{found[max(0, at - 60) : at + 120]}… and not …{right.after[max(0, at - 60) : at + 120]}…"
