"""Stores that cannot be opened, and what is printed where."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from pydantic import HttpUrl

from checkpoint_base import CheckpointSaver, StoreUnavailable, cli, open_saver
from checkpoint_base.cli import rendering
from tests.cli.conftest import (
    EVERY_THREAD,
    HOSTILE,
    HOSTILE_ID,
    Colour,
    Point,
    on_a_terminal,
    process,
    start,
)

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
        ("sqlite:///{folder}", "is a folder: name a file in it"),
    ],
)
def test_a_store_that_cannot_be_opened_is_an_error(tmp_path: Path, store: str, said: str) -> None:
    (tmp_path / "app.db").touch()
    path = tmp_path / "app.db" if "?" in store else tmp_path
    result = CliRunner().invoke(cli.main, ["--store", store.format(folder=path), "threads"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert said in result.stderr


@pytest.mark.parametrize("url", ["postgresql://app:s3cr[et@db/app", "postgresql://app:s3cret℀@db/app", "app:s3cret@db"])
def test_a_store_is_not_shown_with_its_password(call: Callable[..., Result], url: str) -> None:
    for result in (CliRunner().invoke(cli.main, ["--store", url, "threads"]), call("transfer", "--all", "--to", url)):
        assert (result.exit_code, result.stdout) == (1, "")
        assert "is not the URL of a store" in result.stderr
        assert "s3cr" not in result.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [["threads"], ["threads", "--json"], ["show", "ann-1"], ["copy", "ann-1", "twin"], ["schema", "postgres"]],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_an_error(url: str, command: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "checkpoint_base.cli", "--store", url, *command],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("printed", ["print_json(['x' * 100_000])", "say('x' * 100_000)"])
def test_output_of_which_a_part_can_be_written_is_an_error(printed: str, unbuffered: str, tmp_path: Path) -> None:
    program = (
        "import resource; from checkpoint_base.cli import rendering\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # as on a disk that is nearly full\n"
        "rendering.require_output()\n"
        f"try: rendering.{printed}\n"
        "except rendering.Failure as error: raise SystemExit(str(error))"
    )
    with open(tmp_path / "printed", "w") as file:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=file,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "the output cannot be written: File too large\n")
    assert (tmp_path / "printed").stat().st_size == 10_000


def in_a_shell(url: str, *command: str, redirected: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "checkpoint_base.cli", "--store", url, *command]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *program],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["threads"], ["threads", "--json"], ["delete", "ann-1", "--yes"]], ids=" ".join)
def test_without_an_output_to_print_to_nothing_is_done_and_a_sentence_says_so(url: str, command: list[str]) -> None:
    done = in_a_shell(url, *command, redirected=">&-")
    said = "Error: the output cannot be written: it is closed; send it to /dev/null if you do not want it\n"
    assert (done.returncode, done.stderr) == (1, said)
    with open_saver(url) as saver:
        assert {info.thread_id for info in saver.threads()} == set(EVERY_THREAD)


def test_messages_may_have_nowhere_to_go(url: str) -> None:
    assert in_a_shell(url, "threads", redirected="2>&-").stdout.count("\n") == 2 + len(EVERY_THREAD)
    assert in_a_shell(url, "prune", "--all", "--yes", redirected="2>&-").returncode == 0
    assert in_a_shell(url, "show", "nobody", redirected="2>&-").returncode == 1


@pytest.mark.parametrize("command", [["threads"], ["threads", "--json"], ["schema", "postgres"]], ids=" ".join)
def test_whoever_reads_no_further_causes_no_message(url: str, command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "checkpoint_base.cli", "--store", url, *command],
        stdout=writing,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("command", [["threads"], ["show", "x"], ["delete", "x", "--yes"], ["prune", "--all"]], ids=str)
def test_a_file_that_does_not_exist_is_an_error_and_is_not_made(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "missing file.db"
    for written in (str(path), str(path).replace(" ", "%20")):
        result = CliRunner().invoke(cli.main, ["--store", f"sqlite:///{written}", *command])
        assert (result.exit_code, result.stdout) == (1, "")
        assert "missing file.db" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:?deadline=5"])
def test_a_store_in_memory_is_refused_because_it_would_be_empty(url: str) -> None:
    for command in (["threads"], ["prune", "--idle", "30d", "--strategy", "delete", "--yes"]):
        result = CliRunner().invoke(cli.main, ["--store", url, *command])
        assert (result.exit_code, result.stdout) == (2, "")
        assert "the URL names a store in memory, which is empty here: write sqlite:///file.db" in result.stderr


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
    fill = (
        "import sys, app_of_somebody\nfrom checkpoint_base import open_saver\nfrom tests.cli.conftest import start\n"
        + ("with open_saver(sys.argv[1]) as saver:\n    start(saver, 'a', app_of_somebody.Order(7))\n")
    )
    url, path = f"sqlite:///{tmp_path}/app.db", f"{tmp_path}:{Path(__file__).parents[2]}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", fill, url], env=environment, check=True, capture_output=True)
    done = process("--store", url, "show", "a", "--json", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["channels"]["topic"] == {"number": 7}


# What is printed


@pytest.mark.parametrize(
    ("topic", "shown"),
    [
        ("a" * 160, "a" * 160),
        ("ä" * 161, f"{'ä' * 160}… (161 characters)"),
        (["a" * 60, "b" * 60], f'["{"a" * 60}","{"b" * 60}"]'),
        ([HumanMessage("a" * 200), HumanMessage("b")], '2 items, the last: {"content":"b","type":"human"}'),
        (("a" * 200, "b" * 161), f"2 items, the last: {'b' * 160}… (161 characters)"),
        (["a" * 200], f'["{"a" * 158}… (204 characters)'),
    ],
    ids=["text", "long text", "list", "conversation", "long items", "one item"],
)
def test_of_a_long_value_a_table_shows_how_it_begins_and_of_a_long_list_the_last_item(
    tmp_path: Path, topic: Any, shown: str
) -> None:
    with open_saver(f"sqlite:///{tmp_path}/app.db") as saver:
        start(saver, "a", topic)
    result = CliRunner().invoke(cli.main, ["--store", f"sqlite:///{tmp_path}/app.db", "show", "a"])
    assert re.findall("^topic +(.*)$", result.stdout, flags=re.MULTILINE) == [shown]


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


@pytest.mark.parametrize("command", ["interrupts", "history", "show"])
def test_a_terminal_gets_an_id_on_one_line_if_that_leaves_room_for_what_is_beside_it(
    tmp_path: Path, command: str
) -> None:
    url = f"sqlite:///{tmp_path}/wide.db"
    config: RunnableConfig = {"configurable": {"thread_id": "order-17", "checkpoint_ns": ""}}
    with open_saver(url) as saver:
        start(saver, "order-17", "a question that is longer than a line, " * 3)
        waiting = [each for asked in saver.interrupts() for each in (asked.interrupt_id, asked.task_id)]
        history = [each.checkpoint_id for each in saver.history(config)]
    arguments, ids = {
        "interrupts": ([], waiting[:1]),
        "history": (["order-17", "--ns", ""], history),
        "show": (["order-17"], waiting),
    }[command]
    code, shown = on_a_terminal("--store", url, command, *arguments)
    rows = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert code == 0
    assert [each for each in ids if not any(each in row for row in rows)] == []
    assert all(len(row) <= 80 for row in rows)


def test_a_reader_that_stops_reading_ends_the_command_quietly(url: str) -> None:
    command = f"{sys.executable} -m checkpoint_base.cli --store {url} show ann-1 --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def documented() -> dict[str, tuple[list[str], list[str]]]:
    """By command, the names in its document and those in an item of its list, as the page has them."""
    page = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text(encoding="utf-8")
    rows = page.partition("| command | document |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [[re.findall(r"`(\w+)`", cell) for cell in row.split("|")[1:4]] for row in rows]
    return {command: (document, item) for [command], document, item in cells}


@pytest.mark.parametrize(
    "arguments",
    [
        ["threads"],
        ["interrupts", "--limit", "2"],
        ["history", "ann-1"],
        ["show", "ann-1"],
        ["copy", "ann-1", "twin"],
        ["delete", "ann-1", "--yes"],
        ["prune", "--all", "--yes"],
        ["transfer", "--all", "--to", "{url}.copy"],
        ["import", "conformance_tests.factories:from_environment", "--all"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_documents_for_programs_are_those_on_the_page(
    ask: Callable[..., Any], url: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECKPOINT_STORE", url)  # which the factory opens
    document = ask(*(argument.format(url=url) for argument in arguments))
    names, of_an_item = documented()[arguments[0]]
    assert list(document) == names
    items = next((part for part in document.values() if isinstance(part, list)), [])
    if of_an_item:
        assert {tuple(item) for item in items} == {tuple(of_an_item)}


def test_every_command_with_json_is_on_the_page() -> None:
    commands = {name for name, command in cli.main.commands.items() if any(p.name == "as_json" for p in command.params)}
    assert documented().keys() == commands


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\x00\xff", {"base64": "AP8="}),
        (2**70, str(2**70)),
        (2**64, str(2**64)),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (True, True),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (timedelta(days=1), "1 day, 0:00:00"),
        (UUID(int=5), str(UUID(int=5))),
        (Decimal("1.50"), "1.50"),
        (HttpUrl("https://a.example/b"), "https://a.example/b"),
        ({1: "a", "1": "b", (2, 3): None, "\ud800": 0}, {"1": "a", "'1'": "b", "(2, 3)": None, "\\ud800": 0}),
        ({3, 1, 2}, [1, 2, 3]),
        ({*"gfedcba", None}, [*"abcdefg", None]),
        (deque([1, (2,)]), [1, [2]]),
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
    assert repr(document["channels"]["topic"]) == repr(shown)  # True is not 1
    assert document["interrupts"][0]["value"] == {"publish": shown}
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


def test_a_command_leaves_the_log_as_it_was(call: Callable[..., Result], caplog: pytest.LogCaptureFixture) -> None:
    repeated = logging.getLogger("checkpoint_base.transport")
    caplog.set_level(logging.ERROR, repeated.name)
    before = repeated.level, [*repeated.handlers]
    call("threads")
    assert (repeated.level, repeated.handlers) == before


def test_a_number_that_python_does_not_print_keeps_nothing_from_being_listed(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'huge.db'}"
    with open_saver(store) as saver:
        config: Any = {"configurable": {"thread_id": "huge", "checkpoint_ns": ""}}
        saver.put(config, empty_checkpoint(), {"step": 10**5000, "source": "loop"}, {})
    for command in (["threads"], ["show", "huge"], ["history", "huge"]):
        result = CliRunner().invoke(cli.main, ["--store", store, *command])
        assert (result.exit_code, "<int>" in result.stdout) == (0, True)
