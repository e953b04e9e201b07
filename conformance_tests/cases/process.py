"""PROCESS: several processes on one storage."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from conformance_tests import worker
from conformance_tests.case import case
from conformance_tests.trial import Colour, Trial
from conformance_tests.worker import Answer, Processes

COLOURS = (Colour.SYNC, Colour.ASYNC)
PROCESSES = 4


@case("PROCESS-1", colours=COLOURS, long=True)
def a_paused_graph_resumes_in_another_process(t: Trial) -> None:
    processes = on_the_storage(t)
    with TemporaryDirectory() as folder:
        job = {"do": "run", "colour": t.colour, "thread": t.thread(), "journal": str(Path(folder) / "journal")}
        paused = result_of(t, processes.do({**job, "pause": True})[0], "one process ran the graph to its question")
        t.expect(paused, {"asks": ["go on?"]}, "one process ran the graph to its question; it asks")
        ended = result_of(t, processes.do(job)[0], "another process resumed the graph")
        t.expect(ended["state"], worker.FINAL, "another process resumed the graph; the final state")
        done = sorted(entry["did"] for entry in worker.entries(job["journal"]) if "did" in entry)
        once = ["ask", "count 1", "count 2", "note", "plan", "work a", "work b"]
        t.expect(done, once, "another process resumed the graph; what nodes did in both")
        handle = t.open()
        graph = worker.graph_on(handle.saver, job["journal"], t.colour)
        state = handle.get_state(graph, t.config(job["thread"]))
        t.expect(state.values, worker.FINAL, "another process ran the graph to its end; its state in a third")


@case("PROCESS-2", colours=COLOURS, long=True)
def processes_that_open_and_write_at_once_lose_nothing(t: Trial) -> None:
    processes = on_the_storage(t)
    _expect_all_of(t, processes, None)
    root = t.put(t.open(), t.thread())
    _expect_all_of(t, processes, root)
    found = t.expect_found(t.open().get_tuple(root), "several processes wrote to one checkpoint")
    writes = [(task, channel) for task, channel, _ in found.pending_writes or []]
    expected = [(f"task-{number}-{n}", channel) for number in range(PROCESSES) for n in range(6) for channel in _BOTH]
    expected += [(f"task-{n}", "winner") for n in range(6)]
    t.expect(sorted(writes), sorted(expected), f"{PROCESSES} processes wrote at once to one checkpoint; its writes")


_BOTH = ("a", "first")


def on_the_storage(t: Trial) -> Processes:
    """Other processes on the trial's storage."""
    if t.subject.factory_name is None:
        t.fail("other processes have to open the storage: give the suite a factory_name")
    return Processes(t.subject.factory_name)


def result_of(t: Trial, answer: Answer, situation: str) -> Any:
    """Return the result of a job; fail if its process did not finish."""
    if answer.error is not None:
        t.fail(f"{situation}; it raised {answer.error}")
    t.expect(answer.exit, 0, f"{situation}; its exit code")
    return answer.result


def _expect_all_of(t: Trial, processes: Processes, root: dict[str, Any] | None) -> None:
    threads, common = [t.thread() for _ in range(PROCESSES)], t.thread()
    at = time.time() + 0.2
    jobs = [
        {"do": "write", "colour": t.colour, "own": own, "common": common, "number": number, "count": 6, "at": at}
        for number, own in enumerate(threads)
    ]
    for answer in processes.do(*({**job, "root": root} for job in jobs)):
        result_of(t, answer, f"{PROCESSES} processes wrote at once")
    handle = t.open()
    for number, own in enumerate(threads):
        _expect_written(t, handle.list(t.config(own)), [[number, n] for n in range(6)], "to a thread of its own")
    everything = [[number, n] for number in range(PROCESSES) for n in range(6)]
    _expect_written(t, handle.list(t.config(common)), everything, "to one thread")


def _expect_written(t: Trial, listed: list[Any], expected: list[Any], where: str) -> None:
    situation = f"{PROCESSES} processes wrote at once, each {where}"
    values = [found.checkpoint["channel_values"]["n"] for found in listed]
    t.expect(sorted(values), expected, f"{situation}; the checkpoints")
    writes = [[value for _, _, value in found.pending_writes or []] for found in listed]
    t.expect(writes, [[value] for value in values], f"{situation}; the writes of each checkpoint")
