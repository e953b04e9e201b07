"""Our own Python: the time of an operation on a state of 1 KB if the store answers immediately."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint

from benchmarks.measure import Timings, settle
from benchmarks.results import Results, timed
from benchmarks.sides import OURS, Backend
from benchmarks.traffic import Prose, latest
from checkpoint_base import CheckpointSaver, SQLiteSaver


class _Answers:
    """A transport that gives the same answer to everything."""

    answer: Any = None

    def execute(self, _: Any) -> Any:
        return self.answer


def run(results: Results, _: Backend) -> None:
    results.progress("our own Python, without I/O")
    prose, answers, saver = Prose(5), _Answers(), SQLiteSaver(":memory:")
    with saver:
        transport = saver.transport
        stored = saver.put(latest("thread"), _checkpoint(saver, prose), _METADATA, {})
        execute, kept = saver.store.transport.execute, list[Any]()

        def keeping(request: Any) -> Any:
            kept.append(execute(request))
            return kept[-1]

        saver.store.transport.execute = keeping  # type: ignore[method-assign]
        missing = saver.put(stored, _checkpoint(saver, prose), _METADATA, {}) and kept.pop()
        saver.put_writes(stored, [("text", prose.text())], "task")
        saver.get_tuple(latest("thread"))
        saver.transport = answers  # type: ignore[assignment]
        for operation, answer in (("put", missing), ("put_writes", missing), ("get_tuple", kept.pop())):
            answers.answer = answer
            timings = Timings()
            settle()
            for number in range(2000):
                checkpoint = _checkpoint(saver, prose)
                calls: dict[str, Callable[[], Any]] = {
                    "put": partial(saver.put, stored, checkpoint, _METADATA, checkpoint["channel_versions"]),
                    "put_writes": partial(saver.put_writes, stored, [("text", prose.text())], f"task {number}"),
                    "get_tuple": partial(saver.get_tuple, stored),
                }
                timings.time(calls[operation])
            results.add(workload="python", backend="none", side=OURS, operation=operation, **timed(timings))
        saver.transport = transport


_METADATA: Any = {"source": "loop", "step": 1, "parents": {}}


def _checkpoint(saver: CheckpointSaver, prose: Prose) -> Any:
    return {
        **empty_checkpoint(),
        "channel_values": {"text": prose.text()},
        "channel_versions": {"text": saver.get_next_version(None)},
    }
