"""CONCURRENCY: many callers at once. A deadlock fails the case instead of hanging it."""

from __future__ import annotations

import asyncio
import copy
import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from conformance_tests.case import case
from conformance_tests.trial import Colour, Config, ConformanceFailure, Trial, ids_of

Saver: TypeAlias = BaseCheckpointSaver[Any]

Job: TypeAlias = Generator[tuple[Any, ...], Any, None]
"""Yields calls as ``(method, *arguments)`` and is sent their results, so that it can run in a thread or as a task.

What a call raises is raised where the job yielded it.
"""

CALLERS = 20
PATIENCE = 60.0
"""Seconds after which unfinished callers count as deadlocked."""


@case("CONCURRENCY-1")
def many_callers_work_on_threads_of_their_own(t: Trial) -> None:
    saver = t.open().saver
    threads = [t.thread() for _ in range(CALLERS)]
    at_once(t, [(saver, _life_of(t, thread)) for thread in threads], f"{CALLERS} callers of one saver")
    for thread in threads:
        _expect_life(t, thread)


@case("CONCURRENCY-1")
def many_callers_read_what_others_write(t: Trial) -> None:
    handle, thread = t.open(), t.thread()
    stored = t.chain(handle, thread, 5)
    t.put(handle, thread, {"large": "x" * 200_000}, parent=stored[-1])
    readers = [(handle.saver, _reading(t, thread, stored)) for _ in range(CALLERS // 2)]
    writers = [(handle.saver, _life_of(t, t.thread())) for _ in range(CALLERS // 2)]
    at_once(t, [job for pair in zip(readers, writers, strict=True) for job in pair], "readers and writers of one saver")


@case("CONCURRENCY-2")
def checkpoints_put_at_once_to_one_thread_are_all_there(t: Trial) -> None:
    handles = [t.open() for _ in range(4)]
    for _ in range(4):  # in one of them, the latest may happen to be the last one put
        thread = t.thread()
        root = t.put(handles[0], thread, {"n": -1})
        checkpoints = [t.checkpoint({"n": number}, versions={"n": f"{number + 2:032}.0"}) for number in range(CALLERS)]
        ids = [checkpoint["id"] for checkpoint in checkpoints]
        jobs = [(handles[n % 4].saver, _putting(root, checkpoints[n])) for n in reversed(range(CALLERS))]
        at_once(t, jobs, f"{CALLERS} checkpoints put at once to one thread")
        other = t.open()
        listed = ids_of(other.list(t.config(thread)))
        expected = sorted([root["configurable"]["checkpoint_id"], *ids])
        t.expect(sorted(listed), expected, f"put {CALLERS} checkpoints at once to one thread that has one; listed ids")
        found = t.expect_found(other.get_tuple(t.config(thread)), "put at once to one thread")
        t.expect(found.checkpoint["id"], ids[-1], "put at once to one thread; the latest")
        for number, id_ in enumerate(ids):
            found = t.expect_found(other.get_tuple(t.config(thread, id_)), "put at once to one thread")
            t.expect(found.checkpoint["channel_values"], {"n": number}, "put at once to one thread; values of one")


@case("CONCURRENCY-2")
def writes_put_at_once_to_one_checkpoint_are_all_there(t: Trial) -> None:
    handles = [t.open() for _ in range(4)]
    config = t.put(handles[0], t.thread())
    jobs = [(handles[n % 4].saver, _writing(config, f"task-{n:02}", [("a", n), ("b", [n])])) for n in range(CALLERS)]
    at_once(t, jobs, f"{CALLERS} tasks wrote at once to one checkpoint")
    found = t.expect_found(t.open().get_tuple(config), "wrote at once to one checkpoint")
    expected = [(f"task-{n:02}", channel, value) for n in range(CALLERS) for channel, value in (("a", n), ("b", [n]))]
    t.expect_writes(found, expected, f"{CALLERS} tasks wrote at once to one checkpoint")


@case("CONCURRENCY-2")
def writes_and_their_checkpoint_put_at_once_are_all_there(t: Trial) -> None:
    handle = t.open()
    for _ in range(8):
        thread, checkpoint = t.thread(), t.checkpoint({"n": 1})
        config = t.config(thread, checkpoint["id"])
        jobs = [(handle.saver, _writing(config, f"task-{n}", [("a", n)])) for n in range(4)]
        at_once(t, [*jobs, (handle.saver, _putting(t.config(thread), checkpoint))], "a put and its checkpoint's writes")
        found = t.expect_found(t.open().get_tuple(config), "put a checkpoint and its writes at once")
        t.expect(found.checkpoint["channel_values"], {"n": 1}, "put a checkpoint and its writes at once; values")
        expected = [(f"task-{n}", "a", n) for n in range(4)]
        t.expect_writes(found, expected, "put a checkpoint and its writes at once")


@case("CONCURRENCY-2")
def whoever_reads_meanwhile_sees_all_of_a_call_or_nothing(t: Trial) -> None:
    handles, thread = [t.open() for _ in range(3)], t.thread()
    t.put(handles[0], thread, dict.fromkeys("abc", 0))
    ended: list[bool] = []
    readers = [(handle.saver, _reading_whole(t, thread, ended)) for handle in handles[1:]]
    at_once(t, [(handles[0].saver, _writing_whole(t, thread, ended)), *readers], "read while somebody else writes")


@case("CONCURRENCY-3")
def one_of_the_writes_under_one_position_wins_for_every_reader(t: Trial) -> None:
    handles = [t.open() for _ in range(4)]
    for _ in range(6):
        config = t.put(handles[0], t.thread())
        seen: list[Any] = []
        jobs = [(handles[n % 4].saver, _racing(config, f"of caller {n}", seen)) for n in range(CALLERS)]
        at_once(t, jobs, "writes under one task and position")
        for handle in (*handles, t.open()):
            found = t.expect_found(handle.get_tuple(config), "raced to write under one task and position")
            seen.append(found.pending_writes or [])
        situation = f"{CALLERS} callers wrote at once under one task and position"
        t.expect(len(seen[-1]), 1, f"{situation}; how many writes are kept")
        for other in seen:
            t.expect(other, seen[-1], f"{situation}; what one reader saw, compared with another")


@case("CONCURRENCY-4", colours=(Colour.ASYNC,))
def several_event_loops_use_one_saver_at_once(t: Trial) -> None:
    saver = t.open().saver
    threads = [[t.thread() for _ in range(4)] for _ in range(6)]

    def on_a_loop_of_its_own(ids: Sequence[str]) -> None:
        async def together() -> None:
            await asyncio.gather(*(_awaited(saver, _life_of(t, thread)) for thread in ids))

        asyncio.run(together())

    home = [_awaited(saver, _life_of(t, thread)) for thread in threads[0]]
    others = [partial(on_a_loop_of_its_own, ids) for ids in threads[1:]]
    _carry_out(t, others, home, "five event loops and the one that opened the saver used it at once")
    for thread in (thread for ids in threads for thread in ids):
        _expect_life(t, thread)


@case("CONCURRENCY-4", colours=(Colour.ASYNC,))
def event_loops_that_come_and_go_use_one_saver(t: Trial) -> None:
    saver = t.open().saver
    for _ in range(3):
        loop = partial(lambda job: asyncio.run(_awaited(saver, job)), _life_of(t, t.thread()))
        _carry_out(t, [loop], [], "an event loop used the saver and ended, then another one did")
    _carry_out(t, [], [_awaited(saver, _life_of(t, t.thread()))], "the loop that opened the saver used it again")


@case("CONCURRENCY-5", colours=(Colour.SYNC,))
def sync_methods_work_where_an_event_loop_is_running(t: Trial) -> None:
    saver, threads = t.open().saver, [t.thread() for _ in range(4)]

    async def sync_in_async(thread: str) -> None:
        _called(saver, _life_of(t, thread))

    async def together() -> None:
        await asyncio.gather(*map(sync_in_async, threads))

    _carry_out(t, [lambda: asyncio.run(together())], [], "sync methods were called on a thread whose loop is running")
    for thread in threads:
        _expect_life(t, thread)


@case("CONCURRENCY-6")
def clones_and_the_original_see_the_same(t: Trial) -> None:
    for kind, clone in _clones(t.open().saver):
        thread = t.thread()
        original, copied = clone()
        for saver in (original, copied):
            own = t.thread()
            at_once(t, [(saver, _life_of(t, own))], f"used a saver, then its {kind}")
            _expect_life(t, own)
        at_once(t, [(copied, _life_of(t, thread))], f"used a {kind}")
        at_once(t, [(original, _expecting_life(t, thread))], f"used a {kind}, then read with the original")


@case("CONCURRENCY-6")
def clones_and_the_original_work_at_once(t: Trial) -> None:
    for kind, clone in _clones(t.open().saver):
        threads = [t.thread() for _ in range(CALLERS // 2)]
        pair = clone()
        jobs = [(pair[n // 2 % 2], _life_of(t, thread)) for n, thread in enumerate(threads)]
        at_once(t, jobs, f"a saver and its {kind} were used at once")
        for thread in threads:
            _expect_life(t, thread)


@case("CONCURRENCY-6")
def the_original_outlives_its_clones(t: Trial) -> None:
    saver, thread = t.open().saver, t.thread()
    for kind, clone in _clones(saver):
        copied = clone()[1]
        at_once(t, [(copied, _life_of(t, t.thread()))], f"used a {kind}")
        del copied
        gc.collect()
        at_once(t, [(saver, _life_of(t, t.thread()))], f"dropped a {kind}, then used the original")
    at_once(t, [(saver, _life_of(t, thread))], "dropped all clones")
    _expect_life(t, thread)


@case("CONCURRENCY-7", colours=(Colour.ASYNC,))
def a_cancelled_call_stores_all_or_nothing_and_the_next_ones_work(t: Trial) -> None:
    handle, thread = t.open(), t.thread()
    root = t.put(handle, thread)
    checkpoints = [
        t.checkpoint(dict.fromkeys("abc", number), versions=dict.fromkeys("abc", f"{number:032}.1"))
        for number in range(1, len(_TURNS) + 1)
    ]
    situation = "calls were cancelled at different moments"

    async def cancel_and_go_on() -> None:
        saver = handle.saver
        for number, (checkpoint, turns) in enumerate(zip(checkpoints, _TURNS, strict=True)):
            calls = [
                ("put", root, checkpoint, {"source": "loop", "step": 0}, checkpoint["channel_versions"]),
                ("put_writes", root, [(channel, number) for channel in "abc"], f"task-{number}"),
                ("get_tuple", root),
                ("list", t.config(thread)),
            ]
            # One after the other, and at once, when some may still wait for their turn.
            for some in (*([call] for call in calls), calls * 3):
                running = [asyncio.ensure_future(_awaited(saver, _calling(*call))) for call in some]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for call in running:
                    call.cancel()
                await asyncio.wait(running)
            await _awaited(saver, _life_of(t, t.thread()))

    _carry_out(t, [], [cancel_and_go_on()], situation)
    other = t.open()
    for number, checkpoint in enumerate(checkpoints, 1):
        if found := other.get_tuple(t.config(thread, checkpoint["id"])):
            expected = dict.fromkeys("abc", number)
            t.expect(found.checkpoint["channel_values"], expected, f"{situation}; values of a put that was one of them")
    found = t.expect_found(other.get_tuple(root), situation)
    tasks = {task for task, _, _ in found.pending_writes or ()}
    whole = [(task, channel, int(task.rpartition("-")[2])) for task in tasks for channel in "abc"]
    t.expect_writes(found, whole, f"{situation}; of every put_writes all or nothing")


_TURNS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610)
"""How often the event loop turns until a call is cancelled: from before it began until it has probably ended."""


# Jobs


def _calling(*call: Any) -> Job:
    yield call


def _life_of(t: Trial, thread: str) -> Job:
    """Do what a short run does, with values that name its thread, and check what is read."""
    parent = t.config(thread)
    for number in range(2):
        checkpoint = t.checkpoint({"whose": [thread, number]}, versions={"whose": f"{number + 1:032}.0000000000000001"})
        parent = yield "put", parent, checkpoint, {"step": number, "of": thread}, checkpoint["channel_versions"]
        yield "put_writes", parent, [("a", thread), ("b", number)], f"task-{thread}"
        yield from _expecting_life(t, thread, number)


def _expecting_life(t: Trial, thread: str, number: int = 1) -> Job:
    _check_life(t, thread, number, (yield "get_tuple", t.config(thread)), (yield "list", t.config(thread)))


def _check_life(t: Trial, thread: str, number: int, found: CheckpointTuple | None, listed: Sequence[Any]) -> None:
    found = t.expect_found(found, "put by one of many callers")
    t.expect(found.checkpoint["channel_values"], {"whose": [thread, number]}, "one of many callers; its values")
    t.expect(found.metadata.get("of"), thread, "one of many callers; its metadata")
    writes = [(f"task-{thread}", "a", thread), (f"task-{thread}", "b", number)]
    t.expect_writes(found, writes, "one of many callers")
    t.expect(len(listed), number + 1, "one of many callers; its checkpoints")


def _expect_life(t: Trial, thread: str) -> None:
    other = t.open()
    _check_life(t, thread, 1, other.get_tuple(t.config(thread)), other.list(t.config(thread)))


def _reading(t: Trial, thread: str, stored: Sequence[Config]) -> Job:
    for number, config in enumerate(stored):
        found = t.expect_found((yield "get_tuple", config), "read while others write")
        t.expect(found.checkpoint["channel_values"], {"n": number}, "read while others write; values")
    listed = yield "list", t.config(thread)
    t.expect(len(listed), len(stored) + 1, "listed while others write; how many")


def _putting(config: Config, checkpoint: dict[str, Any]) -> Job:
    yield "put", config, checkpoint, {"source": "loop", "step": 0}, checkpoint["channel_versions"]


def _writing(config: Config, task_id: str, writes: list[tuple[str, Any]]) -> Job:
    yield "put_writes", config, writes, task_id


def _writing_whole(t: Trial, thread: str, ended: list[bool]) -> Job:
    """Put checkpoints whose channels, and writes, all hold the same number; at the end, say so."""
    try:
        config = t.config(thread)
        for number in range(1, 21):
            checkpoint = t.checkpoint(dict.fromkeys("abc", number), versions=dict.fromkeys("abc", f"{number:032}.1"))
            config = yield "put", config, checkpoint, {"source": "loop", "step": 0}, checkpoint["channel_versions"]
            yield "put_writes", config, [(channel, number) for channel in "abc"], "task-1"
    finally:
        ended.append(True)


def _reading_whole(t: Trial, thread: str, ended: list[bool]) -> Job:
    while not ended:
        found = t.expect_found((yield "get_tuple", t.config(thread)), "read while somebody else puts")
        values = found.checkpoint["channel_values"]
        t.expect(values, dict.fromkeys("abc", values.get("a")), "read while somebody else puts; values")
        writes = [(channel, value) for _, channel, value in found.pending_writes or ()]
        if writes:
            expected = [(channel, values["a"]) for channel in "abc"]
            t.expect(sorted(writes), expected, "read while somebody else puts writes; those of one call")


def _racing(config: Config, value: str, seen: list[Any]) -> Job:
    yield "put_writes", config, [("winner", value)], "task-1"
    found = yield "get_tuple", config
    seen.append(found.pending_writes or [])


def _clones(saver: Saver) -> Iterator[tuple[str, Callable[[], tuple[Saver, Saver]]]]:
    yield "copy.copy", lambda: (saver, copy.copy(saver))
    yield "with_allowlist clone", lambda: (saver, saver.with_allowlist([("conformance_tests.values", "Point")]))


# Carrying jobs out


def at_once(t: Trial, jobs: Sequence[tuple[Saver, Job]], situation: str) -> None:
    """Carry out all jobs at once: each in a thread, or as tasks of one event loop, or half of them each way."""
    in_threads = {Colour.SYNC: jobs, Colour.ASYNC: jobs[:0], Colour.MIXED: jobs[1::2]}[t.colour]
    as_tasks = {Colour.SYNC: jobs[:0], Colour.ASYNC: jobs, Colour.MIXED: jobs[::2]}[t.colour]
    _carry_out(t, [partial(_called, *job) for job in in_threads], [_awaited(*job) for job in as_tasks], situation)


def _carry_out(
    t: Trial, calls: Sequence[Callable[[], None]], tasks: Sequence[Coroutine[Any, Any, None]], situation: str
) -> None:
    errors: list[BaseException] = []
    go = threading.Event()

    def in_thread(call: Callable[[], None]) -> None:
        go.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # raised again on the test's thread
            errors.append(error)

    # Daemons, because a deadlocked thread must not keep the process from ending.
    threads = [threading.Thread(target=in_thread, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()

    async def everything() -> None:
        async with asyncio.timeout(PATIENCE):
            go.set()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            errors.extend(error for error in done if isinstance(error, BaseException))
            while any(thread.is_alive() for thread in threads):  # noqa: ASYNC110  # threads set no event of a loop
                await asyncio.sleep(0.001)

    try:
        with _frequent_switches():
            t.run(everything())
    except TimeoutError:
        t.fail(f"{situation}; some had not finished after {PATIENCE:.0f} s: a deadlock?")
    for error in errors:
        if isinstance(error, ConformanceFailure):
            t.fail(f"{situation}; {error.finding}")
    if errors:
        first = errors[0]
        finding = f"{situation}; {len(errors)} of them raised an error, the first {type(first).__name__}: {first}"
        raise ConformanceFailure(t.clause, finding) from first


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Let Python switch threads often, so that races go wrong in a test rather than after a year."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _called(saver: Saver, job: Job) -> None:
    go_on: Callable[[], tuple[Any, ...]] = partial(next, job)
    try:
        while True:
            method, *arguments = go_on()
            try:
                result = getattr(saver, method)(*arguments)
                go_on = partial(job.send, list(result) if method == "list" else result)
            except Exception as error:  # noqa: BLE001  # handed to the job, which raises it again
                go_on = partial(job.throw, error)
    except StopIteration:
        return


async def _awaited(saver: Saver, job: Job) -> None:
    go_on: Callable[[], tuple[Any, ...]] = partial(next, job)
    try:
        while True:
            method, *arguments = go_on()
            try:
                if method == "list":
                    result: Any = [found async for found in saver.alist(*arguments)]
                else:
                    result = await getattr(saver, f"a{method}")(*arguments)
                go_on = partial(job.send, result)
            except Exception as error:  # noqa: BLE001  # handed to the job, which raises it again
                go_on = partial(job.throw, error)
    except StopIteration:
        return
