"""SQLite as a store: whose file it is, who shares it, what breaks, and what its queries read."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import (
    CheckpointError,
    CorruptCheckpoint,
    SchemaMismatch,
    SQLiteSaver,
    StoreUnavailable,
    UnsupportedOperation,
)
from checkpoint_base.sqlite import connections as sqlite_connections
from checkpoint_base.sqlite import line
from checkpoint_base.sqlite import store as sqlite_store
from checkpoint_base.sqlite.transport import Transaction
from tests.conftest import counted
from tests.forking import done_in_a_fork

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def idle_connections(saver: SQLiteSaver) -> list[sqlite3.Connection]:
    transport: Any = saver.store.transport
    found: list[sqlite3.Connection] = transport._here.get().connections._idle
    return found


def put(saver: SQLiteSaver, values: dict[str, Any], config: Any = CONFIG) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1}, versions)


# Whose file it is


def test_a_file_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch, match="another program's tables"), SQLiteSaver(path):
        pass
    assert path.read_bytes() == before


def test_a_file_that_is_refused_is_closed_again(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()

    async def enter(saver: SQLiteSaver) -> None:
        async with saver:
            pass

    savers = [SQLiteSaver(path), SQLiteSaver(path)]
    with pytest.raises(SchemaMismatch), savers[0]:
        pass
    with pytest.raises(SchemaMismatch):
        asyncio.run(enter(savers[1]))
    for saver in savers:
        with pytest.raises(UnsupportedOperation, match="closed"):
            saver.get_tuple(CONFIG)


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be read as one " * 100)
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch, match="not a SQLite database"), SQLiteSaver(path):
        pass
    assert path.read_bytes() == before


def test_a_newer_layout_is_refused(path: Path) -> None:
    with SQLiteSaver(path):
        pass
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {sqlite_store.SCHEMA_VERSION + 1}")
    newer.close()
    with pytest.raises(SchemaMismatch, match="upgrade"), SQLiteSaver(path):
        pass


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperation, match="create its folder"), SQLiteSaver(tmp_path / "no" / "a.db"):
        pass


def test_a_folder_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperation, match="is a folder"), SQLiteSaver(tmp_path):
        pass


def test_a_link_into_a_missing_folder_is_told_at_once(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "no" / "a.db")
    with pytest.raises(UnsupportedOperation, match=r"no/a\.db.*create its folder"), SQLiteSaver(path):
        pass


def as_nobody(work: Callable[[], object]) -> None:
    """Do work in another process, for whom permissions count: for root they do not."""

    def child() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        work()

    done_in_a_fork(child)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody reaches."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def test_a_file_without_permissions_is_told_at_once(open_folder: Path) -> None:
    path = open_folder / "a.db"

    def read() -> None:
        with SQLiteSaver(path) as saver:
            put(saver, {"a": 1})
        path.chmod(0)
        with pytest.raises(UnsupportedOperation, match="permission"), SQLiteSaver(path):
            pass

    as_nobody(read)


def test_a_new_file_in_a_folder_without_permissions_is_told_at_once(open_folder: Path) -> None:
    open_folder.chmod(0o755 if os.geteuid() == 0 else 0o555)

    def make() -> None:
        with pytest.raises(UnsupportedOperation, match=r"cannot be made.*permission"), SQLiteSaver(open_folder / "a"):
            pass

    as_nobody(make)
    open_folder.chmod(0o777)


def test_a_store_that_cannot_be_opened_is_unavailable_and_not_empty(path: Path) -> None:
    path.symlink_to(path)
    with pytest.raises(StoreUnavailable), SQLiteSaver(path, deadline=0):
        pass


def test_without_a_with_statement_the_first_call_sets_the_file_up(path: Path) -> None:
    saver = SQLiteSaver(path)
    assert saver.get_tuple(CONFIG) is None
    put(saver, {"a": 1})
    saver.close()
    with SQLiteSaver(path) as reader:
        assert reader.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": 1}


def test_a_closed_saver_says_so(path: Path) -> None:
    with SQLiteSaver(path) as saver:
        put(saver, {"a": 1})
    saver.close()
    with pytest.raises(UnsupportedOperation, match="closed"):
        saver.get_tuple(CONFIG)
    with pytest.raises(UnsupportedOperation, match="closed"):
        asyncio.run(saver.aget_tuple(CONFIG))


def test_a_store_in_memory_is_one_for_all_threads_and_loops() -> None:
    async def store(saver: SQLiteSaver, thread_id: str) -> None:
        config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        checkpoint: Any = empty_checkpoint()
        await saver.aput(config, checkpoint, {"step": 0}, {})

    with SQLiteSaver(":memory:") as saver:
        workers = [threading.Thread(target=asyncio.run, args=(store(saver, f"t{n}"),)) for n in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        assert len(list(saver.threads())) == 6


# Who shares it


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


def test_a_relative_path_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with SQLiteSaver("app.db") as saver:
        put(saver, {"a": 1})
        monkeypatch.chdir(tmp_path / "elsewhere")
        found = []
        readers = [threading.Thread(target=lambda: found.append(saver.get_tuple(CONFIG))) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(30)
        assert all(found)
        assert len(found) == 4
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_empty_path_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="empty"):
        SQLiteSaver("")


def test_async_readers_do_not_stand_in_line_behind_writers(path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def read_while_others_wait_to_write() -> None:
        writers = [asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {})) for _ in range(16)]
        await asyncio.sleep(0.1)
        assert await asyncio.wait_for(saver.aget_tuple(CONFIG), 2) is not None
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
        await asyncio.sleep(0.1)  # it has the turn, and waits for the other process
        failing = Transaction(fail, writes=True)
        waiting = [
            *(saver.aput(CONFIG, empty_checkpoint(), {}, {}) for _ in range(10)),
            transport.aexecute(failing),
            *(saver.aput(CONFIG, empty_checkpoint(), {}, {}) for _ in range(10)),
        ]
        tasks = [asyncio.create_task(call) for call in waiting]
        await asyncio.sleep(0.1)
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
        await asyncio.sleep(0.1)
        second = asyncio.create_task(saver.aput(CONFIG, empty_checkpoint(), {}, {}))
        await asyncio.sleep(0.1)
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
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 2.0)

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


@pytest.mark.parametrize("has_the_turn", [True, False])
def test_a_caller_interrupted_by_a_signal_while_it_waits_in_line_neither_keeps_the_turn_nor_writes_later(
    has_the_turn: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        """As KeyboardInterrupt, which a signal's handler raises wherever the main thread is."""

    def interrupt() -> None:
        raise Interrupted

    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 2.0 if has_the_turn else 0.2)
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


@pytest.mark.timeout(20)
def test_a_write_that_an_ended_thread_had_taken_along_is_to_be_tried_again(saver: SQLiteSaver) -> None:
    writers: Any = saver.store.transport._here.get().line  # type: ignore[attr-defined]
    waiting = writers.join(Transaction(lambda _: None, writes=True))
    writers._line.clear()  # as by a thread that a signal ends before it settles what it took
    with pytest.raises(StoreUnavailable, match="ended"):
        writers.serve(waiting)
    put(saver, {"a": 1})


def test_a_saver_closed_in_a_forked_process_leaves_its_parent_s_connections_alone(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    [connection] = idle_connections(saver)

    def child() -> None:
        saver.close()
        connection.execute("SELECT 1")  # raises if it was closed

    done_in_a_fork(child)
    found = saver.get_tuple(CONFIG)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": 1}


def test_a_process_forked_while_a_lock_is_held_does_not_wait_for_it(saver: SQLiteSaver) -> None:
    put(saver, {"a": ["x" * 2000] * 3})
    with saver._memory.get().seen._lock, saver._memory.get().encodings._lock:
        done_in_a_fork(lambda: put(saver, {"a": ["x" * 2000] * 3}))


def test_a_cancelled_call_leaves_the_saver_usable(saver: SQLiteSaver) -> None:
    async def cancel_many() -> None:
        for _ in range(20):
            task = asyncio.create_task(saver.aget_tuple(CONFIG))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await saver.aget_tuple(CONFIG) is None

    asyncio.run(cancel_many())
    put(saver, {"a": 1})
    assert saver.get_tuple(CONFIG) is not None


def test_a_commit_reaches_the_disk_before_it_is_acknowledged(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    connection = idle_connections(saver)[-1]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
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


# What breaks


@pytest.fixture
def broken(path: Path) -> Iterator[sqlite3.Connection]:
    """A thread with every kind of stored bytes, and a connection to damage them."""
    with SQLiteSaver(path) as saver:
        stored = put(saver, {"short": "s", "long": ["x" * 1500 + str(n) for n in range(40)]})
        saver.put_writes(stored, [("w", "y" * 3000), ("short", 1)], "task-1")
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("checkpoints", "header"),
        ("checkpoints", "channels"),
        ("channel_values", "root"),
        ("channel_values", "refs"),
        ("writes", "root"),
        ("writes", "refs"),
        ("chunks", "body"),
    ],
)
def test_any_changed_bit_is_noticed_and_nothing_else_is_raised(
    table: str, column: str, path: Path, broken: sqlite3.Connection
) -> None:
    randomness = random.Random(f"{table}.{column}")
    key = {"channel_values": "channel, version", "writes": "task_id, idx"}.get(table, "rowid")
    rows = broken.execute(f"SELECT {key}, {column} FROM {table} WHERE length({column}) > 0").fetchall()
    where = " AND ".join(f"{name} = ?" for name in key.split(", "))
    with SQLiteSaver(path) as saver:
        intact = saver.get_tuple(CONFIG)
        for _ in range(60):
            *place, content = randomness.choice(rows)
            damaged = bytearray(content.encode() if isinstance(content, str) else content)
            damaged[randomness.randrange(len(damaged))] ^= 1 << randomness.randrange(8)
            value: Any = bytes(damaged)
            if isinstance(content, str):
                value = value.decode("latin-1")
            broken.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, *place))
            try:
                saver.get_tuple(CONFIG)
            except CorruptCheckpoint:
                pass
            else:
                pytest.fail(f"the damage went unnoticed: {place}")
            broken.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (content, *place))
        assert saver.get_tuple(CONFIG) == intact


def test_a_lost_chunk_is_an_error_that_names_the_place(path: Path, broken: sqlite3.Connection) -> None:
    broken.execute("DELETE FROM chunks WHERE chunk = (SELECT max(chunk) FROM chunks WHERE NOT node)")
    with SQLiteSaver(path) as saver, pytest.raises(CorruptCheckpoint, match=r"thread 'thread'.*missing"):
        saver.get_tuple(CONFIG)


def test_a_damaged_file_is_an_error(path: Path, broken: sqlite3.Connection) -> None:
    broken.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    broken.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with SQLiteSaver(path) as saver, pytest.raises(CheckpointError):
        saver.get_tuple(CONFIG)


def test_a_deleted_thread_leaves_no_row_behind(path: Path, saver: SQLiteSaver) -> None:
    stored = put(saver, {"long": ["x" * 1500 + str(n) for n in range(40)]})
    saver.put_writes(stored, [("w", "y" * 3000)], "task-1")
    saver.copy_thread("thread", "copy")
    saver.prune(["copy"])
    saver.delete_thread("thread")
    saver.delete_thread("copy")
    with sqlite3.connect(path) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert len(tables) == 7
        assert {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables} == dict.fromkeys(
            tables, 0
        )
    db.close()


def test_pruning_keeps_exactly_the_chunks_that_are_referred_to(path: Path, saver: SQLiteSaver) -> None:
    messages: list[str] = []
    config: Any = CONFIG
    for step in range(40):
        messages = [*messages, f"{step} ".ljust(1500, "x")]
        config = put(saver, {"messages": messages}, config)
    saver.prune(["thread"])
    with SQLiteSaver(path.with_name("fresh.db")) as fresh:
        put(fresh, {"messages": messages})
    chunks = []
    for file in (path, path.with_name("fresh.db")):
        with sqlite3.connect(file) as db:
            chunks.append(set(db.execute("SELECT id, node, body FROM chunks")))
        db.close()
    assert chunks[0] == chunks[1]
    assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"messages": messages}


def test_a_copy_of_the_file_is_a_copy_of_the_store(path: Path, saver: SQLiteSaver, tmp_path: Path) -> None:
    put(saver, {"a": [1, 2]})
    saver.close()
    shutil.copy(path, tmp_path / "backup.db")
    with SQLiteSaver(tmp_path / "backup.db") as backup:
        assert backup.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": [1, 2]}


def removed(path: Path) -> None:
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("has_open_connection", [True, False])
def test_a_file_that_is_removed_while_it_is_open_is_not_written_and_not_made_anew(
    has_open_connection: bool, path: Path, saver: SQLiteSaver
) -> None:
    put(saver, {"a": 1})
    if not has_open_connection:
        idle_connections(saver).pop().close()
    removed(path)
    with pytest.raises(UnsupportedOperation, match=r"removed or replaced.*open another"):
        put(saver, {"a": 2})
    with pytest.raises(UnsupportedOperation, match="removed or replaced"):
        asyncio.run(saver.aget_tuple(CONFIG))

    def child() -> None:
        with pytest.raises(UnsupportedOperation, match="removed or replaced"):
            saver.get_tuple(CONFIG)

    done_in_a_fork(child)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("is_link", [True, False])
def test_a_file_that_is_replaced_while_it_is_open_is_neither_read_nor_written(
    is_link: bool, path: Path, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        with SQLiteSaver(tmp_path / name) as saver:
            put(saver, {"a": name})
    if is_link:
        path.symlink_to(tmp_path / "one")
    else:
        shutil.copy(tmp_path / "one", path)
    with SQLiteSaver(path) as saver:
        assert saver.get_tuple(CONFIG) is not None
        if is_link:
            path.unlink()
            path.symlink_to(tmp_path / "other")
        else:
            removed(path)
            shutil.copy(tmp_path / "other", path)
        with pytest.raises(UnsupportedOperation, match="removed or replaced"):
            put(saver, {"a": "lost"})
        with pytest.raises(UnsupportedOperation, match="removed or replaced"):
            saver.get_tuple(CONFIG)
    with SQLiteSaver(path) as saver:
        assert [found.checkpoint["channel_values"] for found in saver.list(CONFIG)] == [{"a": "other"}]


def test_a_file_that_is_replaced_while_a_connection_is_made_is_not_used(
    path: Path, saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(saver, {"a": 1})
    idle_connections(saver).pop().close()
    connect = sqlite3.connect

    def replaced_just_then(*args: Any, **options: Any) -> sqlite3.Connection:
        os.replace(shutil.copy(path, path.with_name("copy")), path)
        return connect(*args, **options)

    monkeypatch.setattr(sqlite3, "connect", replaced_just_then)
    with pytest.raises(UnsupportedOperation, match="removed or replaced"):
        put(saver, {"a": 2})
    monkeypatch.undo()
    with SQLiteSaver(path) as reader:
        assert len(list(reader.list(CONFIG))) == 1


def test_a_backup_that_sqlite_copies_into_a_file_in_use_is_what_everybody_reads(
    path: Path, saver: SQLiteSaver, tmp_path: Path
) -> None:
    def copy(source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as to:
            from_.backup(to)

    before: list[str] = [f"{n} ".ljust(1500, "x") for n in range(20)]
    put(saver, {"a": before})
    copy(path, tmp_path / "backup.db")
    after = [*before, "since then ".ljust(1500, "x")]
    put(saver, {"a": after})
    copy(tmp_path / "backup.db", path)
    assert [found.checkpoint["channel_values"] for found in saver.list(CONFIG)] == [{"a": before}]
    put(saver, {"a": after})  # with what this process remembers to have stored, and what is gone again
    with SQLiteSaver(path) as reader:
        assert [found.checkpoint["channel_values"] for found in reader.list(CONFIG)] == [{"a": after}, {"a": before}]


def test_any_path_names_one_file(tmp_path: Path) -> None:
    for name in ("a b", "a%20b", "a?b", "a#b", "a&mode=ro", "\udcff", "file:a"):
        path = tmp_path / name
        with SQLiteSaver(path) as saver:
            put(saver, {"a": name.encode("utf-8", "replace")})
            idle_connections(saver).pop().close()
            assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": name.encode("utf-8", "replace")}
        assert path.is_file()


# What its queries read

# Statements that walk a namespace or a thread on purpose still find it by an index.
READS = {
    name: statement
    for name, statement in vars(sqlite_store._SQL).items()
    if statement.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT INTO waiting"))
}


@pytest.mark.parametrize("name", READS)
def test_a_statement_finds_its_rows_by_an_index(name: str, path: Path, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    db = sqlite3.connect(path)
    db.create_function("has_terms", 2, lambda terms, wanted: True, deterministic=True)
    for statement in READS[name].split(";\n"):
        named = set(re.findall(r":(\w+)", statement))
        parameters: Any = dict.fromkeys(named, "") if named else ("",) * statement.count("?")
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        read = [step for step in plan if step.startswith(("SCAN", "MATERIALIZE")) and "VIRTUAL TABLE" not in step]
        given = ("SCAN chain", "SCAN named", "SCAN CONSTANT ROW")  # ancestors found, and ids that were asked for
        assert [step for step in read if step not in given] == []
    db.close()
