"""CRASH: processes that are killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from langgraph.checkpoint.base import WRITES_IDX_MAP

from conformance_tests import worker
from conformance_tests.case import case
from conformance_tests.cases.process import on_the_storage, result_of
from conformance_tests.contract import Capability
from conformance_tests.trial import Colour, Trial

Journal: TypeAlias = list[dict[str, Any]]
Inspect: TypeAlias = Callable[[dict[str, Any], Journal, Journal], str | None]
"""Takes the result of the resumed run, and the journal before and after the kill; returns what is wrong."""

MOMENTS = ("before", "during", "after")

AT_ONCE = 4
"""How many processes run, and are killed, at once."""


@case("CRASH-1", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_run_killed_at_any_call_ends_in_the_same_state(t: Trial) -> None:
    def inspect(ended: dict[str, Any], _before: Journal, _after: Journal) -> str | None:
        if ended["missing"]:
            return f"what had been acknowledged was gone: {ended['missing']}"
        return None if ended["state"] == worker.FINAL else f"the final state was {ended['state']}, not {worker.FINAL}"

    _kill_at_every_call(t, MOMENTS, ("put", "put_writes"), inspect)


@case("CRASH-2", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_task_whose_writes_were_acknowledged_is_not_run_again(t: Trial) -> None:
    def inspect(_ended: dict[str, Any], before: Journal, after: Journal) -> str | None:
        finished = {
            entry["task"]
            for entry in before
            if entry.get("stored") == "put_writes" and not WRITES_IDX_MAP.keys() >= set(entry["channels"])
        }
        done = {entry["did"] for entry in before if "did" in entry and entry["task"] in finished}
        again = sorted(done & {entry["did"] for entry in after if "did" in entry})
        return f"these ran again although their writes had been acknowledged: {again}" if again else None

    _kill_at_every_call(t, ("after",), ("put_writes",), inspect)


def _kill_at_every_call(t: Trial, moments: Sequence[str], methods: Sequence[str], inspect: Inspect) -> None:
    """Kill a run at each call, cycling through the moments; resume it in another process, and inspect the outcome.

    If a saver has both colours, each colour takes every other call.
    """
    processes = on_the_storage(t)
    with TemporaryDirectory() as folder:

        def job() -> dict[str, Any]:
            thread = t.thread()
            return {"do": "run", "colour": t.colour, "thread": thread, "journal": str(Path(folder) / thread)}

        whole = {**job(), "kill": worker.never(*methods)}
        ended = result_of(t, processes.do(whole)[0], "ran a graph without killing it")
        t.expect(ended["state"], worker.FINAL, "ran a graph without killing it; the final state")
        calls = list(enumerate(ended["seconds"], 1))
        if {Capability.SYNC, Capability.ASYNC} <= t.subject.capabilities:
            calls = calls[t.colour is Colour.ASYNC :: 2]
        kills: list[worker.Kill] = [
            {
                "moment": moments[turn % len(moments)],
                "call": call,
                "methods": methods,
                "seconds": seconds * (turn % 7 + 1) / 8,
            }
            for turn, (call, seconds) in enumerate(calls)
        ]
        findings = []
        for some in (kills[first : first + AT_ONCE] for first in range(0, len(kills), AT_ONCE)):
            resumed = [job() for _ in some]
            killed = processes.do(*({**run, "kill": kill} for run, kill in zip(resumed, some, strict=True)))
            before = [worker.entries(run["journal"]) for run in resumed]
            answers = processes.do(*resumed)
            for kill, death, journal, run, answer in zip(some, killed, before, resumed, answers, strict=True):
                situation = f"killed {kill['moment']} call {kill['call']} of {'/'.join(methods)}, then resumed"
                if death.exit not in worker.KILLED:
                    result_of(t, death, situation)  # parallel tasks may have needed fewer calls this time
                result = result_of(t, answer, situation)
                after = worker.entries(run["journal"])[len(journal) :]
                if finding := inspect(result, journal, after):
                    findings.append(f"{situation}; {finding}")
        t.expect_that(not findings, f"{len(findings)} of {len(kills)} kills: {'; '.join(findings[:3])}")
