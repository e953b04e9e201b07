"""The first upgrade: files that an earlier or a later version has set up, perhaps while others have them open."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from checkpoint_base import CheckpointError, SQLiteSaver
from checkpoint_base.sqlite.store import MIGRATIONS
from tests.upgrades import ANSWERED, CONFIG, answers, asks, assert_told_to_upgrade, graph

ADDITION = """-- What a later version adds; it fails if it is done twice.
ALTER TABLE checkpoints ADD COLUMN kind TEXT NOT NULL DEFAULT 'usual';
ALTER TABLE writes ADD COLUMN kind TEXT NOT NULL DEFAULT 'usual';
CREATE INDEX checkpoints_by_kind ON checkpoints (kind);
"""


def script(path: Path, statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript(f"BEGIN IMMEDIATE; {statements} COMMIT")


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as other:
        version: int = other.execute("PRAGMA user_version").fetchone()[0]
        return version


def content_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as other:
        return list(other.iterdump())


@pytest.fixture
def later(tmp_path: Path) -> Any:
    """Makes this process one of a later version, which brings files to version 101 by the given statements."""

    def upgrade(patch: pytest.MonkeyPatch, statements: str = ADDITION) -> None:
        file = tmp_path / "addition.sql"
        file.write_text(statements, encoding="utf-8")
        patch.setitem(MIGRATIONS, 101, str(file))

    return upgrade


def test_what_a_later_version_adds_is_no_obstacle_to_those_who_have_the_file_open_or_open_it(path: Path) -> None:
    with SQLiteSaver(path) as before:
        asks(before)
        script(path, f"{ADDITION} PRAGMA user_version = 101;")
        assert answers(before) == ANSWERED
        with SQLiteSaver(path) as after:
            assert after.get_tuple(CONFIG).checkpoint["channel_values"]["log"][1] == "yes"  # type: ignore[union-attr]
            for saver, other in ((after, before), (before, after)):
                graph(saver).invoke({"log": ["more"]}, CONFIG)
                assert answers(other)[-2:] == ["yes", "x" * 2000]
            before.copy_thread("thread", "copy")
            before.prune(["copy"])
            assert {each.thread_id for each in after.threads()} == {"thread", "copy"}
    assert version_of(path) == 101


def test_a_file_of_an_earlier_version_is_brought_up_to_date_once_while_a_graph_waits(
    path: Path, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SQLiteSaver(path) as before:
        asks(before)
        later(monkeypatch)
        savers = [SQLiteSaver(path) for _ in range(8)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(SQLiteSaver.setup, savers))
        for saver in savers:
            saver.close()
        assert version_of(path) == 101
        assert answers(before) == ANSWERED
    with SQLiteSaver(path) as after:
        assert [each.pending_interrupts for each in after.threads()] == [0]


def test_an_upgrade_that_fails_half_way_has_changed_nothing(
    path: Path, later: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SQLiteSaver(path) as before:
        asks(before)
    dump = content_of(path)
    with monkeypatch.context() as patch:
        later(patch, f"{ADDITION}INSERT INTO checkpoints (checkpoint) VALUES (1);\n")
        with pytest.raises(CheckpointError), SQLiteSaver(path):
            pass
    assert (version_of(path), content_of(path)) == (100, dump)
    later(monkeypatch)
    with SQLiteSaver(path) as after:
        assert answers(after) == ANSWERED


def test_whoever_has_a_file_open_that_a_later_version_takes_over_is_told_to_upgrade(path: Path) -> None:
    with SQLiteSaver(path) as before:
        asks(before)
        tables = ["threads", "namespaces", "checkpoints", "channel_values", "writes", "chunks", "waiting"]
        renamed = " ".join(f"ALTER TABLE {table} RENAME TO {table}_2;" for table in tables)
        script(path, f"DROP VIEW visible_checkpoints; DROP VIEW listed_threads; {renamed} PRAGMA user_version = 200;")
        assert_told_to_upgrade(before)
