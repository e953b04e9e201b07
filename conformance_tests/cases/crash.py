"""CRASH: processes that are killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from langgraph.checkpoint.base import WRITES_IDX_MAP

from conformance_tests import worker
from conformance_tests.case import case
from conformance_tests.cases.process import result_of, started
from conformance_tests.trial import Colour, Trial

Journal: TypeAlias = list[dict[str, Any]]
Inspect: TypeAlias = Callable[[dict[str, Any], Journal, Journal], str | None]
"""Takes what the resumed run returned and what was written down before and after the kill; returns what is wrong."""

EVERY_CALL = ("put", "put_writes")
MOST_KILLS = 24
"""How many times a case kills; where there are more calls, at equal distances."""

AT_ONCE = 4
"""How many processes run, and are killed, at a time."""


@case("CRASH-1", colours=(Colour.SYNC, Colour.ASYNC), long=True)
def a_run_killed_at_any_call_ends_in_the_same_state(t: Trial) -> None:
    def inspect(ended: dict[str, Any], _before: Journal, _after: Journal) -> str | None:
        if ended["missing"]:
            return f"what had been acknowledged was gone: {ended['missing']}"
        return None if ended["state"] == worker.FINAL else f"the final state was {ended['state']}, not {worker.FINAL}"

    _kill_everywhere(t, ("before", "after"), EVERY_CALL, inspect)


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

    _kill_everywhere(t, ("after",), ("put_writes",), inspect)


def _kill_everywhere(t: Trial, moments: Sequence[str], methods: Sequence[str], inspect: Inspect) -> None:
    """Kill a run at each call, resume it in another process, and inspect what came of it."""
    with TemporaryDirectory() as folder, started(t) as processes:

        def job() -> dict[str, Any]:
            thread = t.thread()
            return {"do": "run", "colour": t.colour, "thread": thread, "journal": str(Path(folder) / thread)}

        whole = {**job(), "kill": ("never", 0, methods)}
        ended = result_of(t, processes.do(whole)[0], "ran a graph without killing it")
        t.expect(ended["state"], worker.FINAL, "ran a graph without killing it; the final state")
        kills = [(moment, number + 1, methods) for moment in moments for number in range(ended["calls"])]
        kills = kills[:: -(-len(kills) // MOST_KILLS)]
        findings = []
        for some in (kills[first : first + AT_ONCE] for first in range(0, len(kills), AT_ONCE)):
            resumed = [job() for _ in some]
            killed = processes.do(*({**run, "kill": kill} for run, kill in zip(resumed, some, strict=True)))
            before = [worker.entries(run["journal"]) for run in resumed]
            answers = processes.do(*resumed)
            for kill, death, journal, run, answer in zip(some, killed, before, resumed, answers, strict=True):
                situation = f"killed {kill[0]} call {kill[1]} of {'/'.join(methods)}, then resumed"
                if death.exit != worker.KILLED:
                    result_of(t, death, situation)  # parallel tasks may have needed fewer calls this time
                result = result_of(t, answer, situation)
                after = worker.entries(run["journal"])[len(journal) :]
                if finding := inspect(result, journal, after):
                    findings.append(f"{situation}; {finding}")
        t.expect_that(not findings, f"{len(findings)} of {len(kills)} kills: {'; '.join(findings[:3])}")
