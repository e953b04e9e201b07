"""The file: which one it is, who may use it, and what is in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Interrupt

from checkpoint_base import SchemaMismatch, SQLiteSaver, StoreUnavailable, UnsupportedOperation
from checkpoint_base.sqlite import store as sqlite_store
from conformance_tests import graphs
from tests.forking import done_in_a_fork
from tests.sqlite.conftest import CONFIG, idle_connections, put


def test_a_file_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch, match="another program's tables"), SQLiteSaver(path):
        pass
    assert path.read_bytes() == before


def test_a_file_of_langgraph_s_saver_is_refused_with_a_word_on_how_to_bring_its_threads_along(path: Path) -> None:
    with SqliteSaver.from_conn_string(str(path)) as other:
        other.setup()
    with pytest.raises(SchemaMismatch, match="`checkpoints import` brings its threads along"), SQLiteSaver(path):
        pass


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
    newer.execute(f"PRAGMA user_version = {max(sqlite_store.MIGRATIONS) + 100}")
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
    with SQLiteSaver(path) as saver:
        put(saver, {"a": 1})
    path.chmod(0)

    def read() -> None:
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


def test_a_connection_such_as_langgraph_s_saver_takes_is_refused() -> None:
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(UnsupportedOperation, match="not from a Connection"),
    ):
        SQLiteSaver(connection)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [SQLiteSaver, SQLiteSaver.from_conn_string])
@pytest.mark.parametrize("url", ["postgresql://ann:secret@host/db", "SQLITE:///app.db"])
def test_a_url_in_the_place_of_a_path_is_refused_and_not_shown(make: Callable[[str], SQLiteSaver], url: str) -> None:
    with pytest.raises(UnsupportedOperation, match="not from a URL: open_saver opens URLs") as refused:
        make(url)
    assert "secret" not in str(refused.value)


def rows(path: Path) -> dict[str, int]:
    """How many rows each table has."""
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}


def test_a_deleted_thread_leaves_no_row_behind(path: Path, saver: SQLiteSaver) -> None:
    asked: list[tuple[str, Any]] = [("__interrupt__", (Interrupt("?", id="1"),)), ("w", "y" * 3000)]

    def fill(thread_id: str, **metadata: str) -> None:
        config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}, "metadata": metadata}
        stored = put(saver, {"long": ["x" * 1500 + str(n) for n in range(40)]}, config)
        for number, write in enumerate(asked):
            saver.put_writes(stored, [write], f"task-{number}")

    fill("stays")
    before = rows(path)
    assert len(before) == 7
    assert 0 not in before.values()
    fill("thread")
    saver.copy_thread("thread", "copy")
    saver.prune(["copy"])
    saver.delete_thread("thread")
    saver.delete_thread("copy")
    fill("other", run_id="run")
    saver.delete_for_runs(["run"])
    assert rows(path) == before


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


def test_of_what_is_pruned_only_writes_to_delta_channels_stay_and_only_where_they_are_needed(
    path: Path, saver: SQLiteSaver
) -> None:
    thread: Any = {"configurable": {"thread_id": "thread"}}
    graph = graphs.delta_graph(saver, graphs.LONG)
    for number in range(3):
        graph.invoke(graphs.both(f"input {number}"), thread)
    before = graph.get_state(thread)
    saver.prune(["thread"])
    with closing(sqlite3.connect(path)) as db:
        left = db.execute(
            "SELECT DISTINCT channel FROM writes JOIN checkpoints USING (namespace, checkpoint_id) WHERE retired"
        ).fetchall()
    assert left == [("delta",)]
    with SQLiteSaver(path) as other:
        assert graphs.delta_graph(other, graphs.LONG).get_state(thread) == before


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


def test_a_file_that_is_removed_as_soon_as_it_is_opened_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def removed_just_then(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        removed(path)
        return connection

    monkeypatch.setattr(sqlite3, "connect", removed_just_then)
    with pytest.raises(UnsupportedOperation, match="removed or replaced"), SQLiteSaver(path, deadline=0):
        pytest.fail("it was opened")
    assert not path.exists()


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
