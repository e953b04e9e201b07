"""Many conversations at once: on 32 threads and as 256 asyncio tasks, near the server and 5 ms away from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.results import Results
from benchmarks.sides import Backend, Side, Storage
from benchmarks.traffic import Put, Turn, chat, latest
from benchmarks.wire import distant
from benchmarks.workloads.contenders import settled

THREADS = 32
TASKS = 256
DISTANCE = 0.005
"""Seconds that are added to a round trip, as if the server were on another machine."""


def run(results: Results, backend: Backend) -> None:
    turns = chat(8)
    rounds = 1 if results.quick else 3
    with backend.server() as server, ExitStack() as stack:
        results.servers[backend.name] = server.version
        storages = [stack.enter_context(backend.place(server.url, number)) for number in range(len(backend.sides))]
        sides = list(zip(backend.sides, storages, strict=True))
        _compare(results, backend, sides, turns, rounds, where="")
        if storages[0].port is not None:
            port = stack.enter_context(distant(storages[0].port, DISTANCE))
            away = [(side, replace(place, url=place.through(port), port=port)) for side, place in sides]
            _compare(results, backend, away, turns[:1], rounds, where=f", {DISTANCE * 1000:.0f} ms away")


def _compare(
    results: Results,
    backend: Backend,
    sides: Sequence[tuple[Side, Storage]],
    turns: Sequence[Turn],
    rounds: int,
    where: str,
) -> None:
    ways: dict[str, Callable[[Side, str, Sequence[Turn], str], tuple[float, str]]] = {
        f"{THREADS} threads{where}": _on_threads,
        f"{TASKS} asyncio tasks{where}": _on_tasks,
    }
    calls_each = sum(len(turn.calls) + 1 for turn in turns)
    for operation, way in ways.items():
        results.progress(f"{backend.name}: {operation}")
        workers = THREADS if way is _on_threads else TASKS
        seconds: dict[str, list[float]] = {side.name: [] for side, _ in sides}
        errors: dict[str, str] = {}
        for number in range(rounds):
            for side, storage in sides:
                if way is _on_tasks and side.aopen is None:
                    continue
                settled(backend)
                took, error = way(side, storage.url, turns, f"{operation} {number}")
                seconds[side.name].append(took)
                errors[side.name] = errors.get(side.name) or error
        for name, took_each in seconds.items():
            if not took_each:
                continue
            results.add(
                workload="concurrency",
                backend=backend.name,
                side=name,
                operation=operation,
                calls=workers * calls_each * rounds,
                per_second=workers * calls_each / median(took_each),
                note=errors[name],
            )


def _on_threads(side: Side, url: str, turns: Sequence[Turn], label: str) -> tuple[float, str]:
    """Seconds until every thread has replayed its conversation, and what went wrong.

    Each thread replays another conversation first, because a service makes its connections only once.
    """
    with side.open(url) as saver, ThreadPoolExecutor(THREADS) as pool:

        def converse(thread: str) -> str:
            try:
                for turn in turns:
                    saver.get_tuple(latest(thread))
                    for call in turn.calls:
                        call.replay(saver, thread)
            except Exception as error:  # noqa: BLE001  # a side's own failure is a finding
                return _told(error)
            return ""

        list(pool.map(converse, [f"before {label} {number}" for number in range(THREADS)]))
        threads = [f"{label} {number}" for number in range(THREADS)]
        began = time.perf_counter()
        errors = list(pool.map(converse, threads))
        took = time.perf_counter() - began
        found = [saver.get_tuple(latest(thread)) for thread in threads]
        return took, _summed(errors, found, turns)


def _on_tasks(side: Side, url: str, turns: Sequence[Turn], label: str) -> tuple[float, str]:
    return asyncio.run(_aconverse_all(side, url, turns, label))


async def _aconverse_all(side: Side, url: str, turns: Sequence[Turn], label: str) -> tuple[float, str]:
    assert side.aopen is not None  # noqa: S101  # no other is asked
    async with side.aopen(url) as saver:
        await asyncio.gather(*(_aconverse(saver, turns, f"before {label} {number}") for number in range(TASKS)))
        threads = [f"{label} {number}" for number in range(TASKS)]
        began = time.perf_counter()
        errors = await asyncio.gather(*(_aconverse(saver, turns, thread) for thread in threads))
        took = time.perf_counter() - began
        found = [await saver.aget_tuple(latest(thread)) for thread in threads]
        return took, _summed(errors, found, turns)


async def _aconverse(saver: Any, turns: Sequence[Turn], thread: str) -> str:
    try:
        for turn in turns:
            await saver.aget_tuple(latest(thread))
            for call in turn.calls:
                await call.areplay(saver, thread)
    except Exception as error:  # noqa: BLE001  # a side's own failure is a finding
        return _told(error)
    return ""


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:100]}"


def _summed(errors: Sequence[str], found: Sequence[Any], turns: Sequence[Turn]) -> str:
    """What went wrong: conversations that ended with an error, and others whose last checkpoint is missing."""
    raised = [error for error in errors if error]
    last = turns[-1].calls[-1]
    assert isinstance(last, Put)  # noqa: S101  # a turn ends with its checkpoint
    lost = sum(
        not error and (tuple_ is None or tuple_.checkpoint["id"] != last.checkpoint["id"])
        for error, tuple_ in zip(errors, found, strict=True)
    )
    told = [f"{len(raised)} of {len(errors)} failed ({raised[0]})"] if raised else []
    return "; ".join([*told, f"{lost} of {len(errors)} are incomplete without an error"] if lost else told)
