"""The inbox: finding the threads that wait for a human among 100,000. Only our saver has this extension."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.types import Interrupt

from benchmarks.measure import Timings, settle
from benchmarks.results import Results, said, timed
from benchmarks.sides import Backend
from benchmarks.traffic import latest
from benchmarks.workloads.contenders import Contender, contender
from checkpoint_base.sqlite.transport import SQLiteTransport, Transaction

_TASK = "00000000-0000-0000-0000-0000000000{:02}"


def sizes(results: Results, backend: Backend) -> tuple[int, int]:
    """How many threads there are, and how many of them wait."""
    threads = backend.inbox_threads // (20 if results.quick else 1)
    return threads, max(10, threads // 100)


def run(results: Results, backend: Backend) -> None:
    threads, waiting = sizes(results, backend)
    results.progress(f"{backend.name}: an inbox of {threads} threads")
    with backend.server() as server, contender(backend, backend.sides[0], server.url, 0) as ours:
        results.servers[backend.name] = server.version
        _fill(ours, threads, waiting)
        reads: dict[str, tuple[Callable[[Any], list[Any]], int]] = {
            "interrupts, all": (lambda saver: list(saver.interrupts()), waiting),
            "interrupts, the first 20": (lambda saver: list(saver.interrupts(limit=20)), min(20, waiting)),
            "interrupts, of one thread": (lambda saver: list(saver.interrupts(thread_id="thread 0")), 1),
            "threads, the first 20": (lambda saver: list(saver.threads(limit=20)), 20),
        }
        for operation, (read, expected) in reads.items():
            timings = Timings()
            for _ in range(5 if results.quick else 20):
                settle()
                found = timings.time(partial(read, ours.saver))
                if len(found) != expected:
                    raise RuntimeError(f"{operation} gave {len(found)} instead of {expected}")
            results.add(
                workload="inbox",
                backend=backend.name,
                side=ours.side.name,
                operation=operation,
                size=threads,
                note=f"{waiting} wait",
                **timed(timings),
                **said(ours.count(partial(read, ours.counted)), 1),
            )


def _fill(ours: Contender, threads: int, waiting: int) -> None:
    every = threads // waiting

    def converse(number: int) -> None:
        config = latest(f"thread {number}")
        stored = ours.saver.put(config, empty_checkpoint(), {"source": "loop", "step": 0, "parents": {}}, {})
        if number % every == 0 and number // every < waiting:
            question = (Interrupt(f"Shall I go on with {number}?", id=f"{number:032}"),)
            ours.saver.put_writes(stored, [("__interrupt__", question)], _TASK.format(1))

    if isinstance(ours.saver.store.transport, SQLiteTransport):
        _fill_file(ours.saver.store.transport, converse, threads)
        return
    with ThreadPoolExecutor(16) as pool:
        numbers = iter(range(threads))
        while batch := list(islice(numbers, 5000)):
            list(pool.map(converse, batch))


def _fill_file(transport: SQLiteTransport, converse: Callable[[int], None], threads: int) -> None:
    """Store a thousand conversations in each commit, because only reading them is measured."""
    execute = transport.execute
    numbers = iter(range(threads))
    while batch := list(islice(numbers, 1000)):

        def work(db: Any, batch: list[int] = batch) -> None:
            def execute_here(request: Any) -> Any:
                return request.work(db)

            transport.execute = execute_here  # type: ignore[method-assign]
            try:
                for number in batch:
                    converse(number)
            finally:
                transport.execute = execute  # type: ignore[method-assign]

        execute(Transaction(work, writes=True))
