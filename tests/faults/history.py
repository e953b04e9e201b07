"""Many callers at once, in threads, event loops and processes, and whether what they saw can be explained.

Every caller writes down what it did, when it began and when it had its answer, by a clock that all processes share. The
history is then compared with the model: what had been acknowledged before a read began must be in it, what is read must
have been written, and where several wrote to one place the first stays, or for special writes the last.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from langgraph.checkpoint.base import CheckpointTuple

from checkpoint_base import CheckpointSaver, StoreUnavailable, open_saver
from tests.faults.acts import checkpoint, config

ROOT = checkpoint(0, {"who": "root"})
"""The checkpoint of each thread that everybody writes to; its id is smaller than all others."""

TASKS = 6

Call: TypeAlias = tuple[str, list[Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Event:
    """One call: ``put``, ``first`` (an ordinary write) or ``last`` (a special one), or a read with what it found.

    ``end`` is None when there was no answer: it may have happened or not.
    """

    kind: str
    thread: str
    start: float
    end: float | None
    what: Any
    task: str = ""


@dataclass(slots=True)
class _Caller:
    """What one caller does: calls in a random order, and what came of them."""

    name: str
    threads: Sequence[str]
    calls: int
    chance: random.Random
    events: list[Event] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def work(self) -> Generator[Call, Any, None]:
        for number in range(self.calls):
            thread = self.chance.choice(self.threads)
            token = f"{self.name}-{number}"
            task = f"task-{self.chance.randrange(TASKS)}"
            root = config(thread, ROOT["id"])
            match self.chance.choice(["put", "first", "last", "latest", "latest", "writes", "writes", "listed"]):
                case "put":
                    id_ = f"2{self.chance.randrange(16**8):08x}-{token}"
                    made = {**checkpoint(1, content_of(id_)), "id": id_}
                    versions = dict.fromkeys(made["channel_values"], f"{1:032}.{token}")
                    made["channel_versions"] = versions
                    call = "put", [root, made, {"source": "loop", "who": id_}, versions], {}
                    yield from self._timed("put", thread, call, lambda _, id_=id_: id_, id_)
                case "first":
                    call = "put_writes", [root, [("winner", token)], task], {}
                    yield from self._timed("first", thread, call, lambda _, token=token: token, token, task)
                case "last":
                    call = "put_writes", [root, [("__resume__", token)], task], {}
                    yield from self._timed("last", thread, call, lambda _, token=token: token, token, task)
                case "latest":
                    yield from self._timed("latest", thread, ("get_tuple", [config(thread)], {}), _seen)
                case "writes":
                    yield from self._timed("writes", thread, ("get_tuple", [root], {}), _written)
                case "listed":
                    named = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
                    yield from self._timed("listed", thread, ("list", [named], {"limit": 40}), _listed)

    def _timed(
        self, kind: str, thread: str, call: Call, read: Callable[..., Any], unknown: Any = None, task: str = ""
    ) -> Generator[Call, Any, None]:
        start = time.monotonic()
        try:
            answer = yield call
        except StoreUnavailable:
            if unknown is not None:
                self.events.append(Event(kind, thread, start, None, unknown, task))
        except Exception as error:
            self.errors.append(f"{self.name}: {kind} raised {type(error).__name__}: {error}")
        else:
            self.events.append(Event(kind, thread, start, time.monotonic(), read(answer), task))


def content_of(id_: str) -> dict[str, Any]:
    """The values of a checkpoint, which follow from its id."""
    return {"who": id_, "much": [f"{id_} {n} ".ljust(300, "x") for n in range(len(id_) % 7)]}


def _seen(found: CheckpointTuple | None) -> Any:
    if found is None:
        return None
    id_ = found.checkpoint["id"]
    is_whole = id_ == ROOT["id"] or (
        found.checkpoint["channel_values"] == content_of(id_) and found.metadata.get("who") == id_  # type: ignore[comparison-overlap]
    )
    return id_ if is_whole else f"half of {id_}"


def _written(found: CheckpointTuple | None) -> Any:
    return None if found is None else [list(write) for write in found.pending_writes or ()]


def _listed(found: Iterable[CheckpointTuple]) -> Any:
    return [_seen(each) for each in found]


def race(
    *,
    url: str,
    name: str,
    threads: Sequence[str],
    calls: int,
    seed: str,
    in_threads: int,
    in_loops: int,
    at: float,
    deadline: float,
) -> dict[str, Any]:
    """Let callers loose on one saver: so many in threads, and in each of two event loops; from a time on."""
    saver = open_saver(url, deadline=deadline)
    callers = [
        _Caller(f"{name}-{n}", [*threads, f"{name}-{n}-alone"], calls, random.Random(f"{seed}-{name}-{n}"))
        for n in range(in_threads + 2 * in_loops)
    ]
    with saver:
        for caller in callers:
            begin(saver, caller.threads[-1])
        time.sleep(max(0.0, at - time.monotonic()))
        working = [threading.Thread(target=_in_thread, args=(saver, caller)) for caller in callers[:in_threads]]
        for first in range(in_threads, len(callers), in_loops or 1):
            on_loop = callers[first : first + in_loops]
            working.append(threading.Thread(target=asyncio.run, args=(_in_loop(saver, on_loop),)))
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()
    events = [event for caller in callers for event in caller.events]
    return {
        "events": [[event.kind, event.thread, event.start, event.end, event.what, event.task] for event in events],
        "errors": [error for caller in callers for error in caller.errors],
    }


def begin(saver: CheckpointSaver, thread: str) -> None:
    """Put the checkpoint that everybody writes to."""
    saver.put(config(thread), ROOT, {"source": "input", "who": "root"}, ROOT["channel_versions"])  # type: ignore[arg-type]


def _in_thread(saver: CheckpointSaver, caller: _Caller) -> None:
    work = caller.work()
    send: Callable[[], Call] = lambda: next(work)  # noqa: E731  # each turn is sent an answer or thrown an error
    try:
        while True:
            method, arguments, options = send()
            try:
                answer = getattr(saver, method)(*arguments, **options)
                if method == "list":
                    answer = list(answer)
            except Exception as error:
                send = lambda error=error: work.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                send = lambda answer=answer: work.send(answer)  # type: ignore[misc]  # noqa: E731
    except StopIteration:
        return


async def _in_loop(saver: CheckpointSaver, callers: Sequence[_Caller]) -> None:
    await asyncio.gather(*(_as_task(saver, caller) for caller in callers))


async def _as_task(saver: CheckpointSaver, caller: _Caller) -> None:
    work = caller.work()
    send: Callable[[], Call] = lambda: next(work)  # noqa: E731  # as above
    try:
        while True:
            method, arguments, options = send()
            try:
                if method == "list":
                    answer: Any = [found async for found in saver.alist(*arguments, **options)]
                else:
                    answer = await getattr(saver, f"a{method}")(*arguments, **options)
            except Exception as error:
                send = lambda error=error: work.throw(error)  # type: ignore[misc]  # noqa: E731
            else:
                send = lambda answer=answer: work.send(answer)  # type: ignore[misc]  # noqa: E731
    except StopIteration:
        return


# The model


def unexplained(events: Iterable[Event]) -> list[str]:
    """What in a history no correct store could have answered."""
    by_thread: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_thread[event.thread].append(event)
    found = []
    for thread, here in by_thread.items():
        puts = [event for event in here if event.kind == "put"]
        for read in here:
            if read.kind == "latest":
                found += _wrong_latest(read, puts)
            elif read.kind == "listed":
                found += _wrong_list(read, puts)
        reads = [event for event in here if event.kind == "writes"]
        found += [f"{thread}: its first checkpoint was gone" for read in reads if read.what is None]
        written = {event.task for event in here if event.task}
        for task in sorted(written.union(by for read in reads for by, _, _ in read.what or ())):
            first = [event for event in here if event.kind == "first" and event.task == task]
            last = [event for event in here if event.kind == "last" and event.task == task]
            found += _wrong_first(thread, task, first, _values(reads, task, "winner"))
            found += _wrong_last(thread, task, last, _values(reads, task, "__resume__"))
    return found


def _wrong_latest(read: Event, puts: Sequence[Event]) -> Iterable[str]:
    least = max((put.what for put in puts if _before(put, read)), default=ROOT["id"])
    possible = {put.what for put in puts if put.start < _end(read)} | {ROOT["id"]}
    if read.what not in possible:
        yield f"{read.thread}: the latest was {read.what}, which nobody had put"
    elif read.what < least:
        yield f"{read.thread}: the latest was {read.what}, although {least} had been acknowledged"


def _wrong_list(read: Event, puts: Sequence[Event]) -> Iterable[str]:
    ids = read.what
    possible = {put.what for put in puts if put.start < _end(read)} | {ROOT["id"]}
    if strangers := set(ids) - possible:
        yield f"{read.thread}: listed {strangers}, which nobody had put"
    elif ids != sorted(set(ids), reverse=True):
        yield f"{read.thread}: listed out of order or twice: {ids}"
    # A list goes page by page, but what was there before it began is on one of its pages.
    least = ids[-1] if len(ids) == 40 else ""
    if missing := {put.what for put in puts if _before(put, read) and put.what > least} - set(ids):
        yield f"{read.thread}: {missing} had been acknowledged and were not listed"


def _values(reads: Iterable[Event], task: str, channel: str) -> list[tuple[Event, list[Any]]]:
    return [
        (read, [value for by, where, value in read.what if (by, where) == (task, channel)])
        for read in reads
        if read.what is not None
    ]


def _wrong_first(thread: str, task: str, writes: Sequence[Event], reads: Sequence[tuple[Event, list[Any]]]) -> Any:
    winners = {value for _, values in reads for value in values}
    if len(winners) > 1:
        yield f"{thread} {task}: the first write wins, and readers saw {sorted(winners)}"
    for read, values in reads:
        if len(values) > 1 or (not values and any(_before(write, read) for write in writes)):
            yield f"{thread} {task}: a write had been acknowledged, and {values} was read"
    for winner in winners:
        started = min((write.start for write in writes if write.what == winner), default=None)
        if started is None:
            yield f"{thread} {task}: {winner} was read, which nobody had written"
        elif earlier := [write.what for write in writes if write.end is not None and write.end < started]:
            yield f"{thread} {task}: {winner} won, although {earlier[0]} had been acknowledged before it began"


def _wrong_last(thread: str, task: str, writes: Sequence[Event], reads: Sequence[tuple[Event, list[Any]]]) -> Any:
    by_value = {write.what: write for write in writes}
    seen: list[tuple[Event, Event]] = []
    for read, values in sorted(reads, key=lambda each: each[0].start):
        if not values:
            if any(_before(write, read) for write in writes):
                yield f"{thread} {task}: a special write had been acknowledged, and none was read"
            continue
        write = by_value.get(values[0])
        if len(values) > 1 or write is None or write.start > _end(read):
            yield f"{thread} {task}: {values} was read, which nobody had written there"
            continue
        for other in writes:
            # An answer that never came is no bound: that write may have happened at any time since.
            if write.end is not None and write.end < other.start and _before(other, read):
                yield f"{thread} {task}: {write.what} was read, although {other.what} had replaced it"
        for earlier, newer in seen:
            if _end(earlier) < read.start and write.end is not None and write.end < newer.start:
                yield f"{thread} {task}: {newer.what} was read, and later {write.what}, which is older"
        seen.append((read, write))


def _before(event: Event, other: Event) -> bool:
    return event.end is not None and event.end < other.start


def _end(event: Event) -> float:
    return float("inf") if event.end is None else event.end
