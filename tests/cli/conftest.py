"""The command line on files that real graphs have filled: called in this process, in another, or at a terminal."""

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
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest
from click.testing import CliRunner, Result
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from checkpoint_base import CheckpointSaver, cli, open_saver

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
def aged(url: str) -> str:
    """The filled store, as if all threads but one had last changed 40 days ago."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE threads SET updated_at = updated_at - 40 * 86400 * 1000000 WHERE thread_id <> 'bob-1'")
    db.close()
    return url


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
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            # Whoever starts the tests in the background may have them ignore it, and all that they start.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
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


def rows(url: str, thread: str, table: Literal["checkpoints", "writes"]) -> int:
    """How many rows of a table the file has of a thread, damaged ones included."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        of_threads = f"SELECT count(*) FROM {table} JOIN namespaces USING (namespace) JOIN threads USING (thread)"
        [count] = file.execute(f"{of_threads} WHERE thread_id = ?", [thread]).fetchone()
    return int(count)


CLI = ("-m", "checkpoint_base.cli")


def on_a_terminal(*arguments: str, columns: int = 80, program: tuple[str, ...] = CLI) -> tuple[int, str]:
    """Run a command whose stdout and stderr are one terminal; return its exit code and what was shown there."""
    screen, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    command = [sys.executable, *program, *arguments]
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
