"""The command line, on SQLite files that real graphs have filled; what it changed is read back by another saver."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from checkpoint_base import CheckpointSaver, CorruptCheckpoint, StoreUnavailable, cli, open_saver, rendering

HOSTILE_ID = "[red]x[/red]\x1b[31m\u202e\x9b1m\r"
HOSTILE = "[bold]x[/bold]\x1b]0;owned\x07\x9b31m\u202e\ud800\0\u2028\r\nend"
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
WAITING = ("ann-1", "bob-1", "ann-2", HOSTILE_ID)
EVERY_THREAD = (*WAITING, "done")


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    topic: Any
    verdict: str


class Inner(TypedDict, total=False):
    topic: Any


def graph(saver: CheckpointSaver) -> Any:
    inner = StateGraph(Inner)
    inner.add_node("look", lambda state: {"topic": state["topic"]})
    inner.add_edge(START, "look")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile(checkpointer=True))
    outer.add_node("draft", lambda state: {"messages": [AIMessage("a draft", id="draft")]})
    outer.add_node("ask", lambda state: {"verdict": interrupt({"publish": state["topic"]})})
    for one, other in ((START, "inner"), ("inner", "draft"), ("draft", "ask"), ("ask", END)):
        outer.add_edge(one, other)
    return outer.compile(checkpointer=saver)


def start(saver: CheckpointSaver, thread: str, topic: Any = "bread", **metadata: Any) -> None:
    config = {"configurable": {"thread_id": thread}, "metadata": metadata}
    graph(saver).invoke({"messages": [HumanMessage("hello", id="hello")], "topic": topic}, config)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "filled.db"
    with open_saver(f"sqlite:///{path}") as saver:
        for thread in WAITING:
            topic = HOSTILE if thread == HOSTILE_ID else "bread"
            start(saver, thread, topic, user=thread.partition("-")[0], age=7, room="7")
        start(saver, "done", user="ann")
        graph(saver).invoke(Command(resume="yes"), {"configurable": {"thread_id": "done"}})
    return path


@pytest.fixture
def url(filled: Path, tmp_path: Path) -> str:
    path = tmp_path / "copy.db"
    path.write_bytes(filled.read_bytes())
    return f"sqlite:///{path}"


@pytest.fixture
def call(url: str) -> Callable[..., Result]:
    """Call the command line on the filled store; no output may hold what a terminal obeys."""

    def called(*arguments: str) -> Result:
        result = CliRunner().invoke(cli.main, ["--store", url, *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert not UNSAFE.search(result.stdout + result.stderr)
        return result

    return called


@pytest.fixture
def ask(call: Callable[..., Result]) -> Callable[..., Any]:
    """Call with ``--json`` and return the document."""

    def asked(*arguments: str) -> Any:
        result = call(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        assert result.stderr == ""
        return json.loads(result.stdout)

    return asked


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "checkpoint_base.cli", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@dataclass
class Terminal:
    """A real process of the command line whose stdin is a terminal."""

    process: subprocess.Popen[str]
    keyboard: int

    @classmethod
    def open(cls, *arguments: str) -> Terminal:
        keyboard, stdin = pty.openpty()
        command = [sys.executable, "-m", "checkpoint_base.cli", *arguments]
        started = subprocess.Popen(
            command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )
        os.close(stdin)
        return cls(started, keyboard)

    def type(self, text: str) -> tuple[int, str, str]:
        os.write(self.keyboard, text.encode())
        return self.end()

    def end(self) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=60)
        os.close(self.keyboard)
        return self.process.returncode, stdout, stderr


def checkpoints(url: str, thread: str) -> list[tuple[str, str]]:
    """The checkpoints that a fresh saver finds, by LangGraph's own interface."""
    with open_saver(url) as saver:
        found = saver.list({"configurable": {"thread_id": thread}})
        return [(each.config["configurable"]["checkpoint_ns"], each.checkpoint["id"]) for each in found]


def everything(url: str) -> dict[str, list[tuple[str, str]]]:
    return {thread: checkpoints(url, thread) for thread in EVERY_THREAD}


# Listings


def test_threads_are_listed_newest_first_with_their_times_steps_and_interrupts(
    call: Callable[..., Result], ask: Callable[..., Any], url: str
) -> None:
    listed = ask("threads")["threads"]
    with open_saver(url) as saver:
        infos = list(saver.threads())
    assert [each["thread_id"] for each in listed] == [*reversed(EVERY_THREAD)]
    assert [datetime.fromisoformat(each["updated_at"]) for each in listed] == [info.updated_at for info in infos]
    assert [each["pending_interrupts"] for each in listed] == [0, 1, 1, 1, 1]
    lines = call("threads").stdout.splitlines()
    assert lines[0].split() == ["thread", "updated", "(UTC)", "created", "(UTC)", "step", "interrupts"]
    assert lines[2].split() == [
        "done",
        *infos[0].updated_at.strftime("%Y-%m-%d %H:%M:%S").split(),
        *infos[0].created_at.strftime("%Y-%m-%d %H:%M:%S").split(),
        str(infos[0].step),
    ]


def test_threads_can_be_listed_oldest_first(ask: Callable[..., Any]) -> None:
    assert [each["thread_id"] for each in ask("threads", "--order", "oldest")["threads"]] == [*EVERY_THREAD]


def test_a_metadata_filter_is_json_if_it_reads_as_json_and_else_text(ask: Callable[..., Any]) -> None:
    def found(*filters: str) -> set[str]:
        options = [part for filter_ in filters for part in ("--metadata", filter_)]
        return {each["thread_id"] for each in ask("threads", *options)["threads"]}

    assert found("user=ann") == {"ann-1", "ann-2"}
    assert found("age=7") == found('room="7"') == set(WAITING)
    assert found("room=7") == found('age="7"') == set()
    assert found("user=ann", "age=7") == {"ann-1", "ann-2"}
    assert found("user=ann", "age=8") == set()


@pytest.mark.parametrize("entries", [["user"], ["=ann"], ["user=ann", "user=bob"]], ids=str)
def test_a_metadata_filter_that_is_none_is_a_usage_error(call: Callable[..., Result], entries: list[str]) -> None:
    result = call("threads", *(part for entry in entries for part in ("--metadata", entry)))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "KEY=VALUE" in result.stderr


@pytest.mark.parametrize(("command", "count"), [("threads", 5), ("interrupts", 4)])
def test_following_the_cursors_lists_everything_once(ask: Callable[..., Any], command: str, count: int) -> None:
    whole = ask(command)
    assert whole["next"] is None
    for limit in (1, 2, count):
        pages: list[Any] = []
        after: list[str] = []
        while True:
            page = ask(command, "--limit", str(limit), *after)
            pages += page[command]
            if page["next"] is None:
                break
            assert len(page[command]) == limit
            after = ["--after", page["next"]]
        assert pages == whole[command]
        assert len(pages) == count


@pytest.mark.parametrize("command", ["threads", "interrupts"])
def test_a_table_ends_with_the_cursor_only_if_more_follows(call: Callable[..., Result], command: str) -> None:
    first = call(command, "--limit", "3").stdout
    cursor = first.splitlines()[-1].partition("There are more: --after ")[2]
    rest = call(command, "--limit", "3", "--after", cursor).stdout
    assert "--after" not in rest
    assert "ann-1" not in first
    assert "ann-1" in rest


def test_a_text_that_is_no_cursor_is_refused(call: Callable[..., Result]) -> None:
    result = call("threads", "--after", "elsewhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: 'elsewhere' is not a cursor")


def test_interrupts_are_listed_with_the_question(
    call: Callable[..., Result], ask: Callable[..., Any], url: str
) -> None:
    listed = ask("interrupts")["interrupts"]
    with open_saver(url) as saver:
        pending = list(saver.interrupts())
    assert [each["interrupt_id"] for each in listed] == [each.interrupt_id for each in pending]
    assert listed[-1]["thread_id"] == "ann-1"
    assert listed[-1]["value"] == {"publish": "bread"}
    assert datetime.fromisoformat(listed[-1]["created_at"]) == pending[-1].created_at
    row = next(line for line in call("interrupts").stdout.splitlines() if line.startswith("ann-1"))
    assert row.split()[3:] == [pending[-1].interrupt_id, '{"publish":"bread"}']


def test_interrupts_can_be_those_of_one_thread_or_of_some_metadata(ask: Callable[..., Any]) -> None:
    assert [each["thread_id"] for each in ask("interrupts", "--thread", "bob-1")["interrupts"]] == ["bob-1"]
    assert [each["thread_id"] for each in ask("interrupts", "--metadata", "user=ann")["interrupts"]] == [
        "ann-2",
        "ann-1",
    ]


def test_an_empty_listing_says_so(call: Callable[..., Result], ask: Callable[..., Any]) -> None:
    assert call("threads", "--metadata", "user=nobody").stdout == "No threads.\n"
    assert call("interrupts", "--thread", "done").stdout == "Nothing waits for an answer.\n"
    assert ask("interrupts", "--thread", "done") == {"interrupts": [], "next": None}


# One thread


def test_show_has_the_latest_checkpoint_whole(call: Callable[..., Result], ask: Callable[..., Any], url: str) -> None:
    shown = ask("show", "ann-1")
    with open_saver(url) as saver:
        latest = saver.get_tuple({"configurable": {"thread_id": "ann-1"}})
        (question,) = saver.interrupts(thread_id="ann-1")
    assert latest is not None
    assert latest.parent_config is not None
    assert shown["thread_id"] == "ann-1"
    assert shown["checkpoint_ns"] == ""
    assert shown["checkpoint_id"] == latest.checkpoint["id"]
    assert shown["parent_id"] == latest.parent_config["configurable"]["checkpoint_id"]
    assert shown["created_at"] == latest.checkpoint["ts"]
    assert (shown["source"], shown["step"]) == ("loop", latest.metadata["step"])
    assert shown["metadata"]["user"] == "ann"
    assert set(shown["channels"]) == set(latest.checkpoint["channel_values"])
    assert shown["channels"]["topic"] == "bread"
    assert [(each["type"], each["content"]) for each in shown["channels"]["messages"]] == [
        ("human", "hello"),
        ("ai", "a draft"),
    ]
    assert [(each["task_id"], each["channel"]) for each in shown["pending_writes"]] == [
        (question.task_id, "__interrupt__")
    ]
    assert [each["interrupt_id"] for each in shown["pending_interrupts"]] == [question.interrupt_id]
    table = call("show", "ann-1").stdout
    for seen in (shown["checkpoint_id"], shown["parent_id"], question.task_id, question.interrupt_id, "user = ann"):
        assert seen in table


def test_show_finds_a_checkpoint_by_its_id_and_namespace(ask: Callable[..., Any], url: str) -> None:
    for namespace, id_ in checkpoints(url, "ann-1"):
        shown = ask("show", "ann-1", "--ns", namespace, "--checkpoint-id", id_)
        assert (shown["checkpoint_ns"], shown["checkpoint_id"]) == (namespace, id_)
        assert bool(shown["pending_interrupts"]) == (id_ == ask("show", "ann-1")["checkpoint_id"])


def test_history_is_what_list_lists(call: Callable[..., Result], ask: Callable[..., Any], url: str) -> None:
    expected = checkpoints(url, "ann-1")
    assert {namespace for namespace, _ in expected} == {"", "inner"}
    listed = ask("history", "ann-1")["checkpoints"]
    assert [(each["checkpoint_ns"], each["checkpoint_id"]) for each in listed] == expected
    root = ask("history", "ann-1", "--ns", "")["checkpoints"]
    assert [each["checkpoint_id"] for each in root] == [id_ for namespace, id_ in expected if not namespace]
    assert [each["parent_id"] for each in root] == [*(each["checkpoint_id"] for each in root[1:]), None]
    assert ask("history", "ann-1", "--limit", "2")["checkpoints"] == listed[:2]
    lines = call("history", "ann-1").stdout.splitlines()
    assert lines[0].split()[-1] == "namespace"
    assert [line.split()[0] for line in lines[2:]] == [id_ for _, id_ in expected]


def test_history_loads_no_value(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointSaver, "get_tuple", None)
    monkeypatch.setattr(CheckpointSaver, "list", None)
    assert call("history", "ann-1").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "nobody"],
        ["show", "nobody", "--json"],
        ["history", "nobody"],
        ["history", "nobody", "--json"],
        ["delete", "nobody", "--yes"],
        ["copy", "nobody", "somebody"],
        ["prune", "nobody", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_thread_that_does_not_exist_is_an_error(call: Callable[..., Result], arguments: list[str]) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no thread 'nobody'")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["show", "ann-1", "--checkpoint-id", "elsewhere"], "'elsewhere'"),
        (["show", "ann-1", "--ns", "outer"], "'outer'"),
        (["history", "ann-1", "--ns", "outer"], "'outer'"),
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_exist_is_an_error(
    call: Callable[..., Result], arguments: list[str], missing: str
) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: thread 'ann-1' has no checkpoint")
    assert missing in result.stderr


# Changes


def test_delete_with_yes_removes_the_named_threads_only(call: Callable[..., Result], url: str) -> None:
    before = everything(url)
    result = call("delete", "ann-1", HOSTILE_ID, "ann-1", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    count = len(before["ann-1"]) + len(before[HOSTILE_ID])
    assert result.stdout.startswith("Deleted threads 'ann-1', '[red]x")
    assert f"with {count} checkpoints." in result.stdout
    assert everything(url) == {**before, "ann-1": [], HOSTILE_ID: []}


def test_delete_removes_nothing_if_one_of_the_threads_is_missing(call: Callable[..., Result], url: str) -> None:
    before = everything(url)
    result = call("delete", "ann-1", "nobody", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: there is no thread 'nobody'; nothing was deleted\n"
    assert everything(url) == before


def test_a_damaged_thread_can_be_deleted(
    call: Callable[..., Result], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: Any, **__: Any) -> Iterator[Any]:
        raise CorruptCheckpoint("damaged: restore it from a backup, or delete the thread")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointSaver, "threads", damaged)
        patch.setattr(CheckpointSaver, "history", damaged)
        assert call("history", "ann-1").exit_code == 1
        result = call("delete", "ann-1", "--yes")
    assert result.stdout == "Deleted thread 'ann-1' with damaged checkpoints.\n"
    assert checkpoints(url, "ann-1") == []


@pytest.mark.parametrize("arguments", [["delete", "ann-1"], ["prune", "--all"], ["prune", "ann-1", "--json"]])
def test_without_a_terminal_to_ask_nothing_is_done(call: Callable[..., Result], url: str, arguments: list[str]) -> None:
    before = everything(url)
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--yes" in result.stderr
    assert everything(url) == before


def test_a_confirmed_deletion_is_done(url: str) -> None:
    count = len(checkpoints(url, "ann-1"))
    code, stdout, stderr = Terminal.open("--store", url, "delete", "ann-1").type("Yes\n")
    assert code == 0
    assert stderr == f"Delete thread 'ann-1' with {count} checkpoints? [y/N] "
    assert stdout == f"Deleted thread 'ann-1' with {count} checkpoints.\n"
    assert checkpoints(url, "ann-1") == []


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "end of file"])
def test_a_declined_deletion_is_not_done(url: str, answer: str) -> None:
    before = everything(url)
    code, stdout, stderr = Terminal.open("--store", url, "delete", "ann-1").type(answer)
    assert (code, stdout) == (1, "")
    assert "Error: nothing was done: you did not confirm" in stderr
    assert everything(url) == before


def test_an_interrupt_at_the_question_ends_with_130_and_no_traceback(url: str) -> None:
    before = everything(url)
    terminal = Terminal.open("--store", url, "delete", "ann-1")
    assert terminal.process.stderr is not None
    asked = terminal.process.stderr.read(len("Delete thread"))
    time.sleep(0.3)
    terminal.process.send_signal(signal.SIGINT)
    code, stdout, stderr = terminal.end()
    assert asked == "Delete thread"
    assert (code, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert everything(url) == before


def test_a_confirmed_pruning_prints_only_json_on_stdout(url: str) -> None:
    code, stdout, stderr = Terminal.open("--store", url, "prune", "ann-1", "--json").type("y\n")
    assert code == 0
    assert json.loads(stdout)["removed"] > 0
    assert stderr.startswith("Remove ")


def test_copy_copies_a_thread_and_says_how_much(call: Callable[..., Result], url: str) -> None:
    expected = checkpoints(url, "ann-1")
    result = call("copy", "ann-1", "twin")
    assert result.stdout == f"Copied {len(expected)} checkpoints of thread 'ann-1' to 'twin'.\n"
    assert checkpoints(url, "twin") == checkpoints(url, "ann-1") == expected
    assert call("copy", "ann-1", "twin").stdout.startswith("Copied 0 checkpoints")
    with open_saver(url) as saver:
        graph(saver).invoke(Command(resume="yes"), {"configurable": {"thread_id": "twin"}})
        assert not list(saver.interrupts(thread_id="twin"))
        assert len(list(saver.interrupts(thread_id="ann-1"))) == 1


def test_copy_refuses_a_target_with_a_history_of_its_own(call: Callable[..., Result], url: str) -> None:
    before = everything(url)
    conflict, same = call("copy", "ann-1", "bob-1"), call("copy", "ann-1", "ann-1")
    assert (conflict.exit_code, conflict.stdout) == (1, "")
    assert "'bob-1'" in conflict.stderr
    assert (same.exit_code, same.stdout) == (2, "")
    assert everything(url) == before


@pytest.mark.parametrize("strategy", ["keep-latest", "delete"])
def test_a_dry_run_says_what_pruning_removes_and_changes_nothing(
    ask: Callable[..., Any], call: Callable[..., Result], url: str, strategy: str
) -> None:
    before = everything(url)
    plan = ask("prune", "--all", "--dry-run", "--strategy", strategy)
    table = call("prune", "--all", "--dry-run", "--strategy", strategy)
    assert everything(url) == before
    assert plan["dry_run"] is True
    assert plan["checkpoints"] == sum(map(len, before.values()))
    assert table.stderr == ""
    assert table.stdout.splitlines()[-1] == (
        f"Would remove {plan['removed']} of {plan['checkpoints']} checkpoints in 5 threads."
    )
    done = ask("prune", "--all", "--yes", "--strategy", strategy)
    after = everything(url)
    assert done == {**plan, "dry_run": False}
    for each in plan["threads"]:
        thread = each["thread_id"]
        assert each["checkpoints"] == len(before[thread])
        assert each["removed"] == len(before[thread]) - len(after[thread])
    assert all(len(left) == (2 if strategy == "keep-latest" else 0) for left in after.values())


def test_a_pruned_thread_can_still_be_answered(call: Callable[..., Result], url: str) -> None:
    result = call("prune", "ann-1", "--yes")
    assert re.fullmatch(r"Removed \d+ of \d+ checkpoints in 1 thread\.\n", result.stdout)
    assert result.stderr == ""
    with open_saver(url) as saver:
        assert graph(saver).invoke(Command(resume="yes"), {"configurable": {"thread_id": "ann-1"}})["verdict"] == "yes"


def test_pruning_names_threads_or_all_of_them_and_not_both(call: Callable[..., Result]) -> None:
    for arguments in ([], ["ann-1", "--all"]):
        result = call("prune", *arguments, "--yes")
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--all" in result.stderr


def test_with_nothing_to_prune_nobody_is_asked(call: Callable[..., Result]) -> None:
    call("prune", "--all", "--yes")
    result = call("prune", "--all")
    assert result.exit_code == 0
    assert result.stdout.startswith("Removed 0 of ")


def test_pruning_goes_on_behind_a_damaged_thread_and_tells_of_it_at_the_end(
    call: Callable[..., Result], url: str
) -> None:
    before = everything(url)
    with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
        damage = "UPDATE checkpoints SET header = x'00' WHERE namespace IN (SELECT n.namespace FROM namespaces n "
        file.execute(damage + "JOIN threads t ON t.thread = n.thread WHERE t.thread_id = 'bob-1')")
        assert file.total_changes
    file.close()
    for options, verb in ((["--dry-run"], "Would remove"), (["--yes"], "Removed")):
        result = call("prune", "--all", *options)
        assert result.exit_code == 1
        assert result.stdout.splitlines()[-1].startswith(f"{verb} ")
        assert result.stdout.endswith("in 4 threads.\n")
        first, last = result.stderr.splitlines()
        assert re.match(r"checkpoint \S+ of thread 'bob-1': ", first)
        assert last.startswith("Error: 1 thread could not be read, and nothing of it was removed")
    assert {thread: len(checkpoints(url, thread)) for thread in EVERY_THREAD if thread != "bob-1"} == {
        "ann-1": 2, "ann-2": 2, HOSTILE_ID: 2, "done": 2,
    }  # fmt: skip
    document = json.loads(call("prune", "--all", "--yes", "--json").stdout)
    assert [each["thread_id"] for each in document["damaged"]] == ["bob-1"]
    with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
        left = file.execute("SELECT count(*) FROM checkpoints WHERE header = x'00'").fetchone()
    file.close()
    assert left == (len(before["bob-1"]),)


# Copying to another store


def test_transfer_copies_threads_to_another_store_and_says_how_much(
    call: Callable[..., Result], ask: Callable[..., Any], url: str, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    before = everything(url)
    count = len(before["ann-1"])
    assert call("transfer", "ann-1", "--to", other).stdout == f"Copied {count} checkpoints of 1 thread.\n"
    assert checkpoints(other, "ann-1") == before["ann-1"]
    total = sum(map(len, before.values()))
    assert call("transfer", "--all", "--to", other).stdout == (
        f"Copied {total - count} checkpoints of 5 threads; {count} were there already.\n"
    )
    assert everything(other) == everything(url) == before
    document = ask("transfer", "--all", "--to", other)
    assert (document["sent"], document["checkpoints"], document["failed"]) == (0, total, [])
    with open_saver(other) as saver:
        assert graph(saver).invoke(Command(resume="yes"), {"configurable": {"thread_id": "ann-1"}})["verdict"] == "yes"


def test_transfer_goes_on_behind_a_thread_that_differs_and_tells_of_it_at_the_end(
    call: Callable[..., Result], url: str, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    with open_saver(other) as saver:
        start(saver, "bob-1", "its own")
    own = checkpoints(other, "bob-1")
    result = call("transfer", "--all", "--to", other)
    assert result.exit_code == 1
    assert result.stdout.endswith("of 4 threads.\n")
    assert result.stderr.startswith("thread 'bob-1' has checkpoints in the target that it does not have in the source")
    assert result.stderr.splitlines()[-1] == "Error: 1 thread could not be copied"
    assert everything(other) == {**everything(url), "bob-1": own}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "sqlite:///{folder}/x.db"], 2, "name the threads to copy, or pass --all"),
        (["--all", "a", "--to", "sqlite:///{folder}/x.db"], 2, "name the threads to copy, or pass --all"),
        (["--all"], 2, "--to"),
        (["nobody", "--to", "sqlite:///{folder}/x.db"], 1, "there is no thread 'nobody'; nothing was copied"),
        (["--all", "--to", "nosuch://x"], 1, "no installed package opens nosuch:// URLs"),
        (["--all", "--to", "sqlite:///{folder}/none/x.db"], 1, "none/x.db"),
    ],
    ids=str,
)
def test_a_transfer_that_cannot_be_done_says_why(
    call: Callable[..., Result], tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    result = call("transfer", *(part.format(folder=tmp_path) for part in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


def on_a_terminal(*arguments: str, columns: int = 80) -> tuple[int, str]:
    """Run a command whose stdout and stderr are one terminal; return its exit code and what was shown there."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    command = [sys.executable, "-m", "checkpoint_base.cli", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    started = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env={**environment, "TERM": "xterm"}
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(screen, 65536)
        except OSError:  # the process has ended, and with it the terminal
            break
    os.close(screen)
    return started.wait(60), shown.decode()


@pytest.mark.parametrize(
    ("doing", "done", "arguments"),
    [
        ("Copying", "Copied ", ["transfer", "--all", "--to", "sqlite:///{folder}/other.db"]),
        ("Pruning", "Removed ", ["prune", "--all", "--yes"]),
    ],
    ids=["transfer", "prune"],
)
def test_long_work_shows_its_progress_on_a_terminal_and_nowhere_else(
    url: str, tmp_path: Path, doing: str, done: str, arguments: list[str]
) -> None:
    command = ["--store", url, *(part.format(folder=tmp_path) for part in arguments)]
    code, shown = on_a_terminal(*command)
    assert code == 0
    assert doing in shown
    assert done in shown.splitlines()[-1]
    piped = process(*command)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout.startswith(done)


def test_whoever_waits_at_a_terminal_is_told_once_that_the_store_does_not_answer() -> None:
    nobody = "redis://127.0.0.1:1/0?deadline=0.5"
    code, shown = on_a_terminal("--store", nobody, "threads", columns=300)
    waiting, error = shown.splitlines()
    assert (code, waiting[:41], error[:32]) == (
        3,
        "The store does not answer yet; trying aga",
        "Error: the store is unavailable:",
    )
    piped = process("--store", nobody, "threads")
    assert (piped.returncode, piped.stderr.splitlines()) == (3, [error])


# The store


def test_no_store_is_a_usage_error_that_says_how_to_give_one() -> None:
    result = CliRunner().invoke(cli.main, ["threads"], env={"CHECKPOINT_STORE": None})
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--store URL" in result.stderr
    assert "CHECKPOINT_STORE" in result.stderr


def test_a_store_behind_the_command_is_told_its_place() -> None:
    result = CliRunner().invoke(cli.main, ["threads", "--store", "sqlite:///app.db"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: write --store before the command: checkpoints --store URL COMMAND" in result.stderr
    assert "--colour" in CliRunner().invoke(cli.main, ["threads", "--colour"]).stderr


def test_a_message_of_several_lines_is_printed_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    rendering.Failure("connection failed\n\tIs the server running?\n").show()
    rendering.complain("one:\r\n  two")
    assert capsys.readouterr().err == "Error: connection failed. Is the server running?\none: two\n"


def test_no_summary_of_a_command_is_cut_off_on_a_terminal_of_80_columns() -> None:
    with click.Context(cli.main, info_name="checkpoints", terminal_width=80) as ctx:
        listed = cli.main.get_help(ctx).partition("Commands:\n")[2].splitlines()
        assert [line.split()[0] for line in listed] == cli.main.list_commands(ctx)
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_help_needs_no_store() -> None:
    for command in ([], *([name] for name in cli.main.list_commands(click.Context(cli.main)))):
        result = CliRunner().invoke(cli.main, [*command, "--help"], env={"CHECKPOINT_STORE": None})
        assert result.exit_code == 0
        assert "Example: checkpoints " in result.stdout


def test_the_environment_can_name_the_store(url: str) -> None:
    done = process("threads", "--json", CHECKPOINT_STORE=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads(done.stdout)["threads"]) == 5


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("nosuch://host/name", "nosuch"),
        ("just-a-name", "is not the URL"),
        ("sqlite://[host/app.db", "is not the URL"),
        ("sqlite://host/app.db", "names a host"),
        ("sqlite:///{folder}?colour=red", "colour"),
        ("sqlite:///{folder}", "there is no file"),
    ],
)
def test_a_store_that_cannot_be_opened_is_an_error(tmp_path: Path, store: str, said: str) -> None:
    (tmp_path / "app.db").touch()
    path = tmp_path / "app.db" if "?" in store else tmp_path
    result = CliRunner().invoke(cli.main, ["--store", store.format(folder=path), "threads"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr


@pytest.mark.parametrize("command", [["threads"], ["show", "x"], ["delete", "x", "--yes"], ["prune", "--all"]], ids=str)
def test_a_file_that_does_not_exist_is_an_error_and_is_not_made(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "missing file.db"
    for written in (str(path), str(path).replace(" ", "%20")):
        result = CliRunner().invoke(cli.main, ["--store", f"sqlite:///{written}", *command])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "missing file.db" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_program_is_an_error_and_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    before = path.read_bytes()
    result = CliRunner().invoke(cli.main, ["--store", f"sqlite:///{path}", "threads"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "notes.txt" in result.stderr
    assert path.read_bytes() == before


def test_a_store_that_does_not_answer_has_an_exit_code_of_its_own(
    call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads(*_: Any, **__: Any) -> Iterator[Any]:
        raise StoreUnavailable("the disk is \x1b[31mfull")

    monkeypatch.setattr(CheckpointSaver, "threads", threads)
    result = call("threads", "--json")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == "Error: the store is unavailable: the disk is \\x1b[31mfull\n"


@pytest.mark.parametrize("wish", ["strict=true", "strict=false", "strict=false&deadline=5", "deadline=5"])
def test_the_url_of_an_application_works_whatever_it_says_of_strictness(url: str, wish: str) -> None:
    result = CliRunner().invoke(cli.main, ["--store", f"{url}?{wish}", "threads", "--json"])
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["threads"]) == 5


def test_no_class_of_the_state_is_imported(tmp_path: Path) -> None:
    (tmp_path / "app_of_somebody.py").write_text(
        "import sys\nfrom dataclasses import dataclass\n"
        "print('imported', file=sys.stderr)\n@dataclass\nclass Order:\n    number: int\n"
    )
    fill = "import sys, test_cli, app_of_somebody\nfrom checkpoint_base import open_saver\n" + (
        "with open_saver(sys.argv[1]) as saver:\n    test_cli.start(saver, 'a', app_of_somebody.Order(7))\n"
    )
    url, path = f"sqlite:///{tmp_path}/app.db", f"{tmp_path}:{Path(__file__).parent}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", fill, url], env=environment, check=True, capture_output=True)
    done = process("--store", url, "show", "a", "--json", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["channels"]["topic"] == {"number": 7}


# What is printed


def test_hostile_ids_and_values_are_shown_as_escapes(call: Callable[..., Result], ask: Callable[..., Any]) -> None:
    # `call` checks that nothing unsafe is in the output of these.
    shown = r"[red]x[/red]\x1b[31m\u202e\x9b1m\r"
    assert shown in call("threads").stdout
    assert shown in call("interrupts").stdout
    assert shown in call("show", HOSTILE_ID).stdout
    assert (
        "[bold]x[/bold]\\x1b]0;owned\\x07\\x9b31m\\u202e\\ud800\\x00\\u2028\\r\\nend" in call("show", HOSTILE_ID).stdout
    )
    assert shown in call("prune", "--all", "--dry-run").stdout
    assert call("history", HOSTILE_ID).exit_code == 0
    assert "\\x1b[2J" in call("show", "nobody\x1b[2J").stderr
    assert ask("show", HOSTILE_ID)["thread_id"] == HOSTILE_ID
    assert ask("show", HOSTILE_ID)["channels"]["topic"] == HOSTILE.replace("\ud800", "\\ud800")


def test_ids_that_no_store_can_hold_are_refused(call: Callable[..., Result]) -> None:
    for thread in ("a\0b", "a\udcffb", "", "x" * 1000):
        result = call("show", thread)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: thread_id ")


def test_what_is_printed_suits_an_output_that_knows_ascii_only(url: str) -> None:
    done = process("--store", url, "show", HOSTILE_ID, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_a_pipe_gets_one_line_for_each_item_with_its_ids_whole(tmp_path: Path) -> None:
    long = "x" * 512
    url = f"sqlite:///{tmp_path}/long.db"
    with open_saver(url) as saver:
        start(saver, long, "y" * 10_000)
    lines = process("--store", url, "interrupts").stdout.splitlines()
    assert len(lines) == 3
    assert lines[2].split()[0] == long
    assert "…" in lines[2]
    assert [line for line in lines if line != line.rstrip()] == []
    shown = CliRunner().invoke(cli.main, ["--store", url, "show", long, "--json"])
    assert shown.stdout.count("y" * 10_000) == 3  # channel, write, interrupt


def test_a_terminal_gets_a_time_on_two_lines_only_where_the_table_needs_the_room(url: str) -> None:
    for columns, lines in ((100, 5), (70, 10)):
        code, shown = on_a_terminal("--store", url, "threads", columns=columns)
        rows = shown.partition("─\r\n")[2].splitlines()
        assert (code, len(rows)) == (0, lines)
        assert all(len(row) <= columns for row in rows)


def test_a_reader_that_stops_reading_ends_the_command_quietly(url: str) -> None:
    command = f"{sys.executable} -m checkpoint_base.cli --store {url} show ann-1 --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\x00\xff", {"base64": "AP8="}),
        (2**70, str(2**70)),
        (-(2**63), -(2**63)),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (timedelta(days=1), "1 day, 0:00:00"),
        (UUID(int=5), str(UUID(int=5))),
        (Decimal("1.50"), "1.50"),
        ({1: "a", "1": "b", (2, 3): None, "\ud800": 0}, {"1": "a", "'1'": "b", "(2, 3)": None, "\\ud800": 0}),
        ({3, 1, 2}, [1, 2, 3]),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        (Colour.RED, "red"),
        (Point(3), {"x": 3}),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.float32(1.5), 1.5),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_value_has_a_form_in_json(tmp_path: Path, value: Any, shown: Any) -> None:
    url = f"sqlite:///{tmp_path}/values.db"
    with open_saver(url) as saver:
        start(saver, "a", value)
    result = CliRunner().invoke(cli.main, ["--store", url, "show", "a", "--json"])
    document = json.loads(result.stdout)
    assert document["channels"]["topic"] == shown
    assert document["pending_interrupts"][0]["value"] == {"publish": shown}
    assert CliRunner().invoke(cli.main, ["--store", url, "show", "a"]).exit_code == 0


def test_a_value_that_cannot_be_described_does_not_stop_the_rest(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    class Spiteful:
        def __repr__(self) -> str:
            raise KeyError("no")

    class Loud:
        def __repr__(self) -> str:
            return "loud \ud800\x9b"

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    rendering.print_json({"spiteful": [Spiteful()], "loud": Loud(), "deep": deep, "class": Point, "number": 10**5000})
    document = json.loads(capsysbinary.readouterr().out)
    assert document["spiteful"] == ["<Spiteful>"]
    assert document["loud"] == "loud \\ud800\x9b"
    assert document["number"] == "<int>"
