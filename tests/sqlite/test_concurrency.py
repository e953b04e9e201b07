"""Threads, event loops and processes that share a file, and the turn to write."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import CorruptCheckpoint, SQLiteSaver, StoreUnavailable, UnsupportedOperation
from checkpoint_base.sqlite import connections as sqlite_connections
from checkpoint_base.sqlite import line
from checkpoint_base.sqlite import store as sqlite_store
from checkpoint_base.sqlite.transport import Setting, Transaction, attempt
from tests.conftest import counted
from tests.forking import done_in_a_fork
from tests.sqlite.conftest import CONFIG, idle_connections, put

OPENED_AND_CLOSED = """
import sys
from checkpoint_base import SQLiteSaver
with SQLiteSaver(sys.argv[1]) as saver:
    list(saver.threads())
"""

LISTED_UNTIL_INTERRUPTED = """
import signal
import sys
from checkpoint_base import SQLiteSaver

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
with SQLiteSaver(sys.argv[1]) as saver:
    for _ in range(20):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            while True:
                list(saver.threads(metadata={"step": 2}))
        except KeyboardInterrupt:
            pass
print("interrupted")
"""


async def in_line(saver: SQLiteSaver, requests: int) -> None:
    """Wait until one writer is at work and so many requests stand in line behind it."""
    writers: Any = saver.store.transport._here.get().line
    while writers._has_turn is None or len(writers._line) != requests:  # noqa: ASYNC110  # there is no event
        await asyncio.sleep(0.005)


def test_a_lock_of_another_process_is_waited_for(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, lambda: other.execute("COMMIT"))
    release.start()
    put(saver, {"a": 2})
    release.join()
    other.close()
    assert len(list(saver.list(CONFIG))) == 2


def test_a_lock_that_stays_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 0.05)
    with SQLiteSaver(path, deadline=0.3) as saver:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            put(saver, {"a": 1})
        assert saver.get_tuple(CONFIG) is None
        other.execute("COMMIT")
        other.close()
        put(saver, {"a": 1})


@contextmanager
def writing_in_a_loop(path: Path) -> Iterator[Callable[[], int]]:
    """Somebody frees the lock for half a millisecond in ten. What is given waits until he has it, and counts."""
    is_over, has_lock, transactions = threading.Event(), threading.Event(), 0

    def write() -> None:
        nonlocal transactions
        with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
            while not is_over.wait(0.0005):
                other.execute("BEGIN IMMEDIATE")
                transactions += 1
                has_lock.set()
                time.sleep(random.uniform(0.005, 0.015))
                has_lock.clear()
                other.execute("COMMIT")

    def begun() -> int:
        assert has_lock.wait(10)
        return transactions

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield begun
    finally:
        is_over.set()
        writer.join()


def test_few_transactions_of_somebody_who_writes_in_a_loop_are_waited_for(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    with writing_in_a_loop(path) as begun:
        waited_for = []
        for _ in range(40):
            before = begun()
            saver.store.transport.execute(Transaction(lambda _: None, writes=True))
            waited_for.append(begun() - before)
    # About 2, and every other time 30 to 90 with SQLite's own pauses. A busy machine may hold this process up, too.
    assert sorted(waited_for)[30] < 20, waited_for


def test_what_begins_a_write_leaves_sqlite_s_own_patience_to_everything_else(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    patience = (sqlite_connections.BUSY_SECONDS * 1000,)
    found = saver.store.transport.execute(
        Transaction(lambda db: db.execute("PRAGMA busy_timeout").fetchone(), writes=True)
    )
    assert found == patience
    [connection] = idle_connections(saver)
    assert connection.execute("PRAGMA busy_timeout").fetchone() == patience


def test_a_signal_ends_a_call_that_waits_for_another_process_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        """As KeyboardInterrupt."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 60.0)
    handler = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with SQLiteSaver(path) as saver, closing(sqlite3.connect(path, isolation_level=None)) as other:
            put(saver, {"a": 1})
            other.execute("BEGIN IMMEDIATE")
            threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR1)).start()
            began = time.monotonic()
            with pytest.raises(Interrupted):
                put(saver, {"a": 2})
            assert time.monotonic() - began < 30
            other.execute("COMMIT")
            put(saver, {"a": 3})
            assert len(list(saver.list(CONFIG))) == 2
    finally:
        signal.signal(signal.SIGUSR1, handler)


def test_a_forked_process_uses_connections_of_its_own(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": "parent"})

    def child() -> None:
        put(saver, {"a": "child"})
        asyncio.run(saver.aget_tuple(CONFIG))

    done_in_a_fork(child)
    put(saver, {"a": "parent again"})
    found = {found.checkpoint["channel_values"]["a"] for found in saver.list(CONFIG)}
    assert found == {"parent", "child", "parent again"}


def test_a_store_in_memory_is_refused_in_a_forked_process() -> None:
    async def aget(saver: SQLiteSaver) -> None:
        await saver.aget_tuple(CONFIG)

    with SQLiteSaver(":memory:") as saver:
        asyncio.run(aget(saver))
        put(saver, {"a": 1})

        def child() -> None:
            with pytest.raises(UnsupportedOperation, match=r"in memory.*process"):
                put(saver, {"a": 2})
            with pytest.raises(UnsupportedOperation, match=r"in memory.*process"):
                asyncio.run(aget(saver))
            saver.close()
            with SQLiteSaver(":memory:") as own:
                put(own, {"a": 3})

        with long_write(saver):
            done_in_a_fork(child)
        assert [found.checkpoint["channel_values"] for found in saver.list(CONFIG)] == [{"a": 1}]


def test_async_readers_do_not_stand_in_line_behind_writers(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def read_while_others_wait_to_write() -> None:
        writers = [asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {}))]
        await in_line(saver, 0)
        writers += [asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {})) for _ in range(15)]
        await in_line(saver, 15)
        assert await asyncio.wait_for(saver.aget_tuple(CONFIG), 20) is not None
        assert not any(writer.done() for writer in writers)
        other.execute("COMMIT")
        await asyncio.gather(*writers)

    asyncio.run(read_while_others_wait_to_write())
    other.close()
    assert len(list(saver.list(CONFIG))) == 17


def test_writers_that_wait_share_a_commit_and_one_that_fails_spoils_no_other(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 0})
    transport = saver.store.transport
    commits: list[str] = []
    idle_connections(saver)[-1].set_trace_callback(
        lambda statement: commits.append(statement) if "COMMIT" in statement else None
    )

    def fail(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM checkpoints")
        raise CorruptCheckpoint("on purpose")

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write_while_another_process_writes() -> list[Any]:
        first = asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {}))
        await in_line(saver, 0)  # it has the turn, and waits for the other process
        failing = Transaction(fail, writes=True)
        waiting = [
            *(saver.aput(CONFIG, empty_checkpoint(), {}, {}) for _ in range(10)),
            transport.aexecute(failing),
            *(saver.aput(CONFIG, empty_checkpoint(), {}, {}) for _ in range(10)),
        ]
        tasks = [asyncio.create_task(call) for call in waiting]
        await in_line(saver, len(tasks))
        other.execute("COMMIT")
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(write_while_another_process_writes())
    other.close()
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)] == [CorruptCheckpoint]
    assert commits == ["COMMIT", "COMMIT"]
    with SQLiteSaver(path) as reader:
        assert len(list(reader.list(CONFIG))) == 22


def test_the_line_of_writers_is_changed_by_one_thread_at_a_time(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: Any = saver.store.transport._here.get().line  # type: ignore[attr-defined]

    class Line(deque[Any]):
        def append(self, waiting: Any) -> None:
            unguarded.append(not writers._lock.locked())
            super().append(waiting)

    unguarded: list[bool] = []
    monkeypatch.setattr(writers, "_line", Line())
    put(saver, {"a": 1})
    asyncio.run(saver.adelete_thread("another"))
    assert unguarded == [False, False]


def test_a_write_that_was_cancelled_in_line_is_not_written_later(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def cancel_in_line() -> None:
        first = asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {}))
        await in_line(saver, 0)
        second = asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {}))
        await in_line(saver, 1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        other.execute("COMMIT")
        await first

    asyncio.run(cancel_in_line())
    other.close()
    put(saver, {"a": 2})
    assert len(list(saver.list(CONFIG))) == 3


def test_a_writer_in_line_gives_up_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 0.2)
    with SQLiteSaver(path, deadline=0) as saver:
        put(saver, {"a": 1})
        with long_write(saver), pytest.raises(StoreUnavailable, match="kept the file busy"):
            put(saver, {"a": 2})
        put(saver, {"a": 3})
        assert len(list(saver.list(CONFIG))) == 2


class Waiting(line.InLine):
    """A request in line whose caller says that it waits, and once it is woken lets something happen first."""

    def __init__(self, waits: threading.Event, first: Callable[[], object], request: Any) -> None:
        super().__init__(request)
        self.waits, self.first, self.lock, self.signal = waits, first, self.signal, cast(Any, self)

    def acquire(self, timeout: float) -> bool:
        self.waits.set()
        is_woken = self.lock.acquire(timeout=timeout)
        self.first()
        return is_woken

    def release(self) -> None:
        self.lock.release()


def test_runs_are_deleted_from_many_threads_in_several_requests(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_store, "THREADS_AT_ONCE", 2)
    for number in range(5):
        config: Any = {"configurable": {"thread_id": f"t{number}", "checkpoint_ns": ""}}
        for run_id in ("kept", "deleted"):
            put(saver, {"a": run_id}, {**config, "metadata": {"run_id": run_id}})
    transport = counted(saver)
    saver.delete_for_runs(["deleted"])
    assert transport.requests == 3, "other writers wait for one request, not for all"
    left = [found.checkpoint["channel_values"] for found in saver.list(None)]
    assert left == [{"a": "kept"}] * 5


@contextmanager
def long_write(saver: SQLiteSaver) -> Iterator[Callable[[], None]]:
    """Another thread writes, until it is told to end, or at the end of the block."""
    began, end = threading.Event(), threading.Event()

    def write(_: sqlite3.Connection) -> None:
        began.set()
        end.wait(10)

    request = Transaction(write, writes=True)
    writer = threading.Thread(target=saver.store.transport.execute, args=(request,))

    def finish() -> None:
        end.set()
        writer.join(10)

    writer.start()
    began.wait(10)
    try:
        yield finish
    finally:
        finish()


def test_the_turn_to_write_of_a_call_that_is_cancelled_just_then_is_passed_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, cancelled = threading.Event(), threading.Event()
    monkeypatch.setattr(line, "InLine", partial(Waiting, waits, lambda: cancelled.wait(10)))
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 20.0)

    async def cancel_what_has_the_turn(saver: SQLiteSaver) -> None:
        with long_write(saver) as finish:
            call = asyncio.create_task(saver.adelete_thread("another"))
            await asyncio.to_thread(waits.wait, 10)
            finish()  # which gives the turn to the call, whose thread has not noticed yet
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        cancelled.set()

    with SQLiteSaver(path, deadline=0) as saver:
        asyncio.run(cancel_what_has_the_turn(saver))
        put(saver, {"a": 1})
        with SQLiteSaver(path) as reader:
            assert reader.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}


def test_a_writer_that_gets_the_turn_as_it_gives_up_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 0.01)
    with SQLiteSaver(path, deadline=0) as saver, long_write(saver) as finish:
        monkeypatch.setattr(line, "InLine", partial(Waiting, threading.Event(), finish))
        put(saver, {"a": 1})
    with SQLiteSaver(path) as reader:
        assert reader.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}


def test_what_is_done_before_its_caller_asks_waits_for_no_other_writer(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 0.01)
    transport: Any = saver.store.transport
    writers = transport._here.get().line
    own = writers.join(Transaction(lambda _: "own", writes=True))
    other = writers.join(Transaction(lambda _: "other", writes=True))
    assert writers.serve(other) == "other"
    with long_write(saver):
        assert writers.serve(own) == "own"


def test_what_sqlite_refuses_inside_a_transaction_is_carried_out_alone() -> None:
    carried_out: list[list[bool]] = []

    def carry_out(requests: Sequence[Any]) -> Sequence[line.Outcome]:
        carried_out.append([request.is_shared for request in requests])
        return [(None, None)] * len(requests)

    write, setting = Transaction(lambda _: None, writes=True), Setting("PRAGMA optimize")
    writers = line.Line(carry_out, "file.db")
    writers.serve([writers.join(request) for request in (write, write, setting, write, setting, setting)][-1])
    assert carried_out == [[True, True], [False], [True], [False], [False]]


def test_a_call_that_is_cancelled_in_line_frees_its_thread_for_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = threading.Event()
    monkeypatch.setattr(line, "InLine", partial(Waiting, waits, lambda: None))
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 20.0)

    async def cancel_what_waits(saver: SQLiteSaver) -> None:
        with long_write(saver):
            call = asyncio.create_task(saver.adelete_thread("another"))
            await asyncio.to_thread(waits.wait, 10)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        await asyncio.wait_for(saver.adelete_thread("another"), 10)

    with SQLiteSaver(path) as saver:
        asyncio.run(cancel_what_waits(saver))


def test_an_error_that_has_undone_everything_is_raised_and_not_taken_for_that_of_one_among_several() -> None:
    def fail(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")  # as SQLite itself does if the disk is full
        raise OSError("the disk is full")

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.execute("BEGIN")
        with pytest.raises(OSError, match="full"):
            attempt(db, fail)


@pytest.mark.parametrize("has_the_turn", [True, False])
def test_a_caller_interrupted_by_a_signal_while_it_waits_in_line_neither_keeps_the_turn_nor_writes_later(
    has_the_turn: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        """As KeyboardInterrupt, which a signal's handler raises wherever the main thread is."""

    def interrupt() -> None:
        raise Interrupted

    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 20.0 if has_the_turn else 0.2)
    with SQLiteSaver(path, deadline=0) as saver:
        put(saver, {"a": 1})
        with long_write(saver) as finish:
            waits = threading.Event()
            monkeypatch.setattr(line, "InLine", partial(Waiting, waits, interrupt))
            finisher = threading.Thread(target=lambda: (waits.wait(10), finish()) if has_the_turn else None)
            finisher.start()
            with pytest.raises(Interrupted):
                saver.delete_thread("thread")
            finisher.join(10)
        monkeypatch.undo()
        put(saver, {"a": 2})
        with SQLiteSaver(path) as reader:
            assert len(list(reader.list(CONFIG))) == 2


def test_a_filtered_listing_that_a_signal_handler_interrupts_raises_what_the_handler_raised(
    path: Path, saver: SQLiteSaver
) -> None:
    for number in range(200):
        put(saver, {"a": 1}, {"configurable": {"thread_id": f"thread-{number}", "checkpoint_ns": ""}})
    program = [sys.executable, "-c", LISTED_UNTIL_INTERRUPTED, str(path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted\n", done.stderr


@pytest.mark.timeout(20)
def test_a_write_that_an_ended_thread_had_taken_along_is_to_be_tried_again(saver: SQLiteSaver) -> None:
    writers: Any = saver.store.transport._here.get().line  # type: ignore[attr-defined]
    waiting = writers.join(Transaction(lambda _: None, writes=True))
    writers._line.clear()  # as by a thread that a signal ends before it settles what it took
    with pytest.raises(StoreUnavailable, match="ended"):
        writers.serve(waiting)
    put(saver, {"a": 1})


def test_what_a_forked_process_stores_after_its_parent_closed_the_file_is_kept(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": "parent"})
    context = multiprocessing.get_context("fork")
    closed_by_parent = context.Event()

    def child() -> None:
        closed_by_parent.wait()
        put(saver, {"a": "child"})
        subprocess.run([sys.executable, "-c", OPENED_AND_CLOSED, str(path)], check=True)
        put(saver, {"a": "child again"})

    forked = context.Process(target=child)
    forked.start()
    saver.close()
    closed_by_parent.set()
    forked.join()
    assert forked.exitcode == 0
    with SQLiteSaver(path) as opened:
        found = [found.checkpoint["channel_values"]["a"] for found in opened.list(CONFIG)]
    assert found == ["child again", "child", "parent"]


def test_processes_that_are_forked_while_others_write_can_write(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with SQLiteSaver(path) as saver:
        put(saver, {"a": 0})
        stopped, quiet = threading.Event(), context.Event()

        def write() -> None:
            while not stopped.is_set():
                put(saver, {"a": 1})

        def child() -> None:
            assert quiet.wait(60)  # beside four that go on and on, it may never find the file free
            put(saver, {"a": 2})

        writers = [threading.Thread(target=write) for _ in range(4)]
        forked = [context.Process(target=child) for _ in range(5)]
        for writer in writers:
            writer.start()
        try:
            for each in forked:
                each.start()
        finally:
            stopped.set()
            for writer in writers:
                writer.join()
        quiet.set()
        for each in forked:
            each.join(60)
            each.kill()
        assert [each.exitcode for each in forked] == [0] * 5
        found = [found.checkpoint["channel_values"]["a"] for found in saver.list(CONFIG)]
        assert found.count(2) == 5


def test_a_fork_in_the_middle_of_one_s_own_request_does_not_wait_for_it(saver: SQLiteSaver) -> None:
    saver.store.transport.execute(Transaction(lambda _: done_in_a_fork(lambda: None)))


def test_a_fork_does_not_close_what_was_stored_in_memory() -> None:
    with SQLiteSaver(":memory:") as saver:
        put(saver, {"a": 1})
        done_in_a_fork(lambda: None)
        assert len(list(saver.list(CONFIG))) == 1


def test_a_process_forked_while_a_lock_is_held_does_not_wait_for_it(saver: SQLiteSaver) -> None:
    put(saver, {"a": ["x" * 2000] * 3})
    with saver._memory.get().seen._lock, saver._memory.get().encodings._lock:
        done_in_a_fork(lambda: put(saver, {"a": ["x" * 2000] * 3}))


def test_a_connection_that_is_given_back_while_the_saver_is_closed_is_closed_too(path: Path) -> None:
    connections = sqlite_connections.Connections(sqlite_connections.File(path))

    class ClosedJustBefore(list[sqlite3.Connection]):
        def append(self, connection: sqlite3.Connection) -> None:
            connections.close()  # by another thread, after this one has seen that the saver is open
            super().append(connection)

    connections._idle = ClosedJustBefore()
    with connections.lent() as connection:
        connection.execute("SELECT 1")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_saver_that_was_closed_leaves_no_thread(path: Path) -> None:
    before = set(threading.enumerate())

    async def work(saver: SQLiteSaver) -> None:
        await saver.adelete_thread("thread")
        await saver.aget_tuple(CONFIG)

    with SQLiteSaver(path) as saver:
        asyncio.run(work(saver))
        assert len(set(threading.enumerate()) - before) == 2  # one writes, one reads
    assert set(threading.enumerate()) <= before


def test_a_cancelled_call_leaves_the_saver_usable(saver: SQLiteSaver) -> None:
    async def cancel_many() -> None:
        for _ in range(20):
            task = asyncio.create_task(saver.aget_tuple(CONFIG))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.result() is None  # Python 3.14 does not wait for a turn of the loop
        assert await saver.aget_tuple(CONFIG) is None

    asyncio.run(cancel_many())
    put(saver, {"a": 1})
    assert saver.get_tuple(CONFIG) is not None


def test_a_commit_reaches_the_disk_before_it_is_acknowledged(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    connection = idle_connections(saver)[-1]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    program = """
import os, sys
from checkpoint_base import SQLiteSaver
from langgraph.checkpoint.base import empty_checkpoint
saver = SQLiteSaver(sys.argv[1])
for n in range(20):
    checkpoint = empty_checkpoint()
    saver.put({"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}, checkpoint, {"step": n}, {})
    print(checkpoint["id"], flush=True)
os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60)
    assert killed.returncode == -9
    acknowledged = killed.stdout.split()
    assert len(acknowledged) == 20
    with SQLiteSaver(path) as saver:
        assert [found.checkpoint["id"] for found in saver.list(CONFIG)] == acknowledged[::-1]
