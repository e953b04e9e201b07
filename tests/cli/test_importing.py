"""`checkpoints import`: threads of another LangGraph saver, which a factory of the user's opens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from click.testing import CliRunner, Result
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from checkpoint_base import cli, open_saver
from tests.cli.conftest import Terminal, graph, process, start

OPENS = """
    import sqlite3
    from langgraph.checkpoint.sqlite import SqliteSaver

    connections = []

    def connected():
        connections.append(sqlite3.connect("old.db"))
        return connections[-1]

    def old():
        print("a saver that talks")
        return SqliteSaver.from_conn_string("old.db")

    def saver():
        return SqliteSaver(connected())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a file of LangGraph's saver that has the threads a and b, and modules that open it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHECKPOINT_STORE", f"sqlite:///{tmp_path}/new.db")
    with SqliteSaver.from_conn_string("old.db") as saver:
        for thread in "ab":
            start(saver, thread)  # type: ignore[arg-type]
    Path("opens.py").write_text(dedent(OPENS))
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for connection in getattr(sys.modules.get("opens"), "connections", ()):
        connection.close()
    for name in ("opens", "odd"):
        sys.modules.pop(name, None)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, ["import", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def of_old(thread: str) -> list[CheckpointTuple]:
    with SqliteSaver.from_conn_string("old.db") as saver:
        return list(saver.list({"configurable": {"thread_id": thread}}))


def of_new(thread: str) -> list[CheckpointTuple]:
    with open_saver("sqlite:///new.db") as saver:
        return list(saver.list({"configurable": {"thread_id": thread}}))


@pytest.mark.parametrize("factory", ["opens:old", "opens:saver"])
def test_every_thread_is_imported_and_goes_on(folder: Path, factory: str) -> None:
    count = len(of_old("a")) + len(of_old("b"))
    result = run(factory, "--all")
    assert (result.exit_code, result.stdout) == (0, f"Imported {count} checkpoints of 2 threads.\n")
    assert [of_new(thread) for thread in "ab"] == [of_old(thread) for thread in "ab"]
    again = run(factory, "--all")
    assert again.stdout == f"Imported 0 checkpoints of 2 threads; {count} were there already.\n"
    with open_saver("sqlite:///new.db") as saver:
        assert graph(saver).invoke(Command(resume="yes"), {"configurable": {"thread_id": "b"}})["verdict"] == "yes"


def test_a_program_gets_one_document_whatever_the_saver_prints(folder: Path) -> None:
    done = process("import", "opens:old", "a", "--json")
    assert done.returncode == 0, done.stderr
    count = len(of_old("a"))
    thread = f'{{"thread_id":"a","checkpoints":{count},"sent":{count}}}'
    expected = f'{{"threads":[{thread}],"checkpoints":{count},"sent":{count},"failed":[]}}'
    assert "".join(done.stdout.split()) == expected
    assert "a saver that talks" in done.stderr
    assert of_new("b") == []


def test_a_saver_that_was_opened_for_the_import_is_closed(folder: Path) -> None:
    odd = """
        import sqlite3
        from langgraph.checkpoint.sqlite import SqliteSaver

        closed = []

        class Old:  # a generator would be closed with the last reference to it
            def __enter__(self):
                self.connection = sqlite3.connect("old.db")
                return SqliteSaver(self.connection)

            def __exit__(self, *error):
                self.connection.close()
                closed.append("old")
    """
    Path("odd.py").write_text(dedent(odd))
    assert run("odd:Old", "--all").exit_code == 0
    assert run("odd:Old", "nobody").exit_code == 1
    assert sys.modules["odd"].closed == ["old", "old"]


def test_a_thread_that_fails_keeps_no_other_from_being_imported(folder: Path) -> None:
    (folder / "odd.py").write_text(
        dedent("""
            from langgraph.checkpoint.sqlite import SqliteSaver
            from opens import connected

            class Odd(SqliteSaver):
                def get_tuple(self, config):
                    if config["configurable"]["thread_id"] == "a":
                        raise ZeroDivisionError("no \\x1b[31m luck")
                    return super().get_tuple(config)

            def odd():
                return Odd(connected())
        """)
    )
    result = run("odd:odd", "a", "b", "c")
    assert result.exit_code == 1
    assert result.stdout == f"Imported {len(of_old('b'))} checkpoints of 1 thread.\n"
    assert result.stderr.splitlines() == [
        r"thread 'a': ZeroDivisionError: no \x1b[31m luck",
        "there is no thread 'c'",
        "Error: 2 threads could not be imported",
    ]
    assert (of_new("a"), of_new("b")) == ([], of_old("b"))


def test_a_store_that_becomes_unavailable_is_not_taken_for_a_thread_that_fails(folder: Path) -> None:
    (folder / "odd.py").write_text(
        dedent("""
            from checkpoint_base import StoreUnavailable
            from langgraph.checkpoint.sqlite import SqliteSaver
            from opens import connected

            class Odd(SqliteSaver):
                def get_tuple(self, config):
                    raise StoreUnavailable("not now")

            def odd():
                return Odd(connected())
        """)
    )
    result = run("odd:odd", "a", "b")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "Error: the store is unavailable: not now\n")


def test_a_saver_that_cannot_list_its_threads_imports_those_that_are_named(folder: Path) -> None:
    (folder / "odd.py").write_text(
        dedent("""
            from langgraph.checkpoint.sqlite import SqliteSaver
            from opens import connected

            class Odd(SqliteSaver):
                def list(self, config, **how):
                    return super().list({"configurable": {"thread_id": config["configurable"]["thread_id"]}}, **how)

            def odd():
                return Odd(connected())
        """)
    )
    result = run("odd:odd", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: its threads cannot be listed, so name them: TypeError: ")
    assert run("odd:odd", "a", "b").exit_code == 0
    assert [of_new(thread) for thread in "ab"] == [of_old(thread) for thread in "ab"]


def test_progress_is_shown_on_a_terminal_only(folder: Path) -> None:
    code, stdout, stderr = Terminal.open("import", "opens:saver", "--all").end()
    assert (code, stderr) == (0, "")
    assert stdout.startswith("Imported ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["opens:old"], 2, "name the threads to import, or pass --all"),
        (["opens:old", "a", "--all"], 2, "name the threads to import, or pass --all"),
        (["opens", "--all"], 2, "write PACKAGE.MODULE:FACTORY"),
        (["nowhere:old", "--all"], 2, "'nowhere' cannot be imported"),
        (["opens:young", "--all"], 2, "opens:young does not exist"),
        (["odd:fails", "--all"], 1, "odd:fails cannot open the saver: RuntimeError: no such database"),
        (["odd:leaves", "--all"], 1, "odd:leaves cannot open the saver: SystemExit: 0"),
        (["odd:nothing", "--all"], 2, "odd:nothing opens no LangGraph saver but an instance of NoneType"),
        (["odd:asynchronous", "--all"], 2, "call aimport_thread in a program"),
    ],
)
def test_what_cannot_be_imported_is_told_and_no_store_is_made(
    folder: Path, arguments: list[str], code: int, message: str
) -> None:
    (folder / "odd.py").write_text(
        dedent("""
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

            def fails():
                raise RuntimeError("no such database")

            def leaves():
                raise SystemExit(0)

            def nothing():
                return None

            def asynchronous():
                return AsyncSqliteSaver.from_conn_string("old.db")
        """)
    )
    result = run(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert not (folder / "new.db").exists()


@pytest.mark.parametrize(("store", "message"), [("sqlite://", "a store in memory"), ("", "no store is named")])
def test_a_store_that_does_not_last_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, store: str, message: str
) -> None:
    monkeypatch.setenv("CHECKPOINT_STORE", store)
    result = run("opens:old", "--all")
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_threads_of_a_saver_of_this_project_are_listed_without_their_state(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    (folder / "odd.py").write_text(
        "from checkpoint_base import SQLiteSaver\n\ndef ours():\n    return SQLiteSaver('ours.db')\n"
    )
    with open_saver("sqlite:///ours.db") as saver:
        start(saver, "mine")
        count = len(list(saver.history({"configurable": {"thread_id": "mine"}})))
    monkeypatch.setattr("checkpoint_base.CheckpointSaver.list", recording(calls))
    assert run("odd:ours", "--all").stdout == f"Imported {count} checkpoints of 1 thread.\n"
    assert calls == ["{'configurable': {'thread_id': 'mine'}}"]


def recording(calls: list[str]) -> Callable[..., Any]:
    from checkpoint_base import CheckpointSaver

    real = CheckpointSaver.list

    def listed(self: Any, config: Any, **how: Any) -> Any:
        calls.append(str(config))
        return real(self, config, **how)

    return listed
