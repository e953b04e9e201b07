"""SQLite's write-ahead log, which grows for as long as readers overlap."""

from __future__ import annotations

import math
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import SQLiteSaver
from checkpoint_base.sqlite import connections as sqlite_connections
from tests.sqlite.conftest import idle_connections

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
LIMIT = 500_000
STEPS = 150
STEP_BYTES = 20_000


def put(saver: SQLiteSaver, step: int) -> None:
    checkpoint: Any = empty_checkpoint()
    checkpoint.update(channel_values={"blob": os.urandom(STEP_BYTES)}, channel_versions={"blob": step})
    saver.put(CONFIG, checkpoint, {"source": "loop", "step": step}, {"blob": step})


def wal_size(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


@contextmanager
def overlapping_readers(path: Path) -> Iterator[None]:
    """Two readers in turns: each begins before the other ends, so that there is never a moment without one."""
    is_over = threading.Event()
    has_begun = threading.Event()

    def read() -> None:
        with closing(sqlite3.connect(path)) as one, closing(sqlite3.connect(path)) as other:
            _begin(one)
            has_begun.set()
            while not is_over.wait(0.001):
                _begin(other)
                one.rollback()
                one, other = other, one

    reader = threading.Thread(target=read)
    reader.start()
    has_begun.wait()
    try:
        yield
    finally:
        is_over.set()
        reader.join()


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM threads").fetchone()


def test_the_log_stays_short_while_there_is_always_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "WAL_BYTES", LIMIT)
    monkeypatch.setattr(sqlite_connections, "WAL_SECONDS", 20)
    path = tmp_path / "app.db"
    sizes = []
    with SQLiteSaver(path) as saver:
        put(saver, 0)
        with overlapping_readers(path):
            for step in range(1, STEPS):
                put(saver, step)
                sizes.append(wal_size(path))
    # All steps write 9 MB. The limit doubles, once, if a busy machine stops a reader for as long as a writer waits.
    assert max(sizes) < 3 * LIMIT
    with SQLiteSaver(path) as again:
        assert len(list(again.history(CONFIG))) == STEPS


def test_a_long_log_is_given_back_to_the_disk_also_where_the_path_is_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connections, "WAL_BYTES", LIMIT)
    path = tmp_path / "elsewhere.db"
    link = tmp_path / "app.db"
    link.symlink_to(path)
    with SQLiteSaver(link) as saver:
        put(saver, 0)
        with closing(sqlite3.connect(path)) as backup:
            _begin(backup)
            for step in range(1, STEPS):
                put(saver, step)
            assert wal_size(path) > STEPS * STEP_BYTES
        for step in range(STEPS, STEPS + 10):
            put(saver, step)
        assert wal_size(path) < 2 * LIMIT
        # And from then on it is kept as short as before.
        monkeypatch.setattr(sqlite_connections, "WAL_SECONDS", 20)
        with overlapping_readers(path):
            for step in range(2 * STEPS, 3 * STEPS):
                put(saver, step)
                assert wal_size(path) < 3 * LIMIT


def test_a_reader_that_stays_keeps_few_writers_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connections, "WAL_BYTES", LIMIT)
    monkeypatch.setattr(sqlite_connections, "WAL_SECONDS", 0.01)
    path = tmp_path / "app.db"
    asked: list[str] = []

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.Connection(*arguments, **options)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr(sqlite_connections.sqlite3, "connect", connect)
    with SQLiteSaver(path) as saver:
        put(saver, 0)
        with closing(sqlite3.Connection(path)) as reader:
            _begin(reader)
            for step in range(1, STEPS):
                put(saver, step)
        longest = wal_size(path)
    # Each time at twice the length.
    assert 1 <= asked.count("PRAGMA wal_checkpoint(TRUNCATE)") <= 1 + math.log2(longest / LIMIT)


@pytest.mark.parametrize("is_read", [False, True])
def test_whoever_shortened_the_log_waits_for_other_writers_as_long_as_ever(
    is_read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connections, "WAL_BYTES", 0)
    monkeypatch.setattr(sqlite_connections, "WAL_SECONDS", 0.01)
    path = tmp_path / "app.db"
    with SQLiteSaver(path) as saver, closing(sqlite3.connect(path)) as reader:
        if is_read:
            _begin(reader)
        put(saver, 1)
        [connection] = idle_connections(saver)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (sqlite_connections.BUSY_SECONDS * 1000,)


def test_a_log_that_cannot_be_shortened_keeps_nothing_from_being_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connections, "WAL_BYTES", 0)
    refused: list[str | None] = []

    def refuse(action: int, name: str | None, *_: str | None) -> int:
        if action != sqlite3.SQLITE_PRAGMA or name != "wal_checkpoint":
            return sqlite3.SQLITE_OK
        refused.append(name)
        return sqlite3.SQLITE_DENY

    with SQLiteSaver(tmp_path / "app.db", deadline=0) as saver:
        [connection] = idle_connections(saver)
        connection.set_authorizer(refuse)
        put(saver, 1)
        assert refused
    with SQLiteSaver(tmp_path / "app.db") as again:
        assert len(list(again.history(CONFIG))) == 1


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    """A copy that has no log, because VACUUM INTO made it."""
    made = tmp_path / "copy.db"
    with SQLiteSaver(path) as saver:
        put(saver, 1)
        with closing(sqlite3.connect(path)) as db:
            db.execute("VACUUM INTO ?", (str(made),))
    return made


def test_a_copy_that_was_made_without_a_log_gets_one_so_that_readers_block_no_writer(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    with SQLiteSaver(copy, deadline=0) as saver, closing(sqlite3.connect(copy)) as reader:
        _begin(reader)
        put(saver, 2)
        assert [each.metadata["step"] for each in saver.history(CONFIG)] == [2, 1]
        assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_copy_that_cannot_be_given_a_log_is_read_without_and_says_so(
    copy: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 0.01)
    with closing(sqlite3.connect(copy)) as reader:
        _begin(reader)
        with SQLiteSaver(copy, deadline=0) as saver:
            assert [each.metadata["step"] for each in saver.history(CONFIG)] == [1]
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "copy.db has no write-ahead log, so its readers and writers wait for each other: " in record.message
    assert "locked" in record.message
