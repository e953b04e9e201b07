"""What the command line tells of threads, interrupts and checkpoints."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from click.testing import Result
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import graphs
from tests.cli.conftest import (
    EVERY_THREAD,
    WAITING,
    checkpoints,
)

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


def test_a_listing_tells_which_threads_and_questions_cannot_be_read(call: Callable[..., Result], url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        spaces = "SELECT namespace FROM namespaces JOIN threads USING (thread) WHERE thread_id = 'bob-1'"
        assert db.execute(f"UPDATE checkpoints SET header = x'00' WHERE namespace IN ({spaces})").rowcount
        assert db.execute(f"UPDATE writes SET root = x'00' WHERE namespace IN ({spaces})").rowcount
    threads, questions = (call(command) for command in ("threads", "interrupts"))
    assert (threads.exit_code, questions.exit_code) == (0, 0)
    told = [line for line in threads.stdout.splitlines() if "cannot be read" in line]
    assert [line.split()[0] for line in told] == ["bob-1"]
    told = [line for line in questions.stdout.splitlines() if "cannot be read: " in line]
    assert [line.split()[0] for line in told] == ["bob-1"]
    assert questions.stdout.count('{"publish":"bread"}') == 2


def test_times_are_shown_in_utc_whatever_zone_a_checkpoint_names(call: Callable[..., Result], url: str) -> None:
    with open_saver(url) as saver:
        config: Any = {"configurable": {"thread_id": "zones", "checkpoint_ns": ""}}
        for ts in ("2026-01-02T03:04:05+05:30", "0001-01-01T00:00:00+05:30"):
            config = saver.put(config, {**empty_checkpoint(), "ts": ts}, {"source": "loop"}, {})
    _, _, last, first = call("history", "zones").stdout.splitlines()
    assert first.split()[1:3] == ["2026-01-01", "21:34:05"]
    assert last.split()[1:3] == ["0001-01-01", "00:00:00"]  # in UTC, it would be in the year 0


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
    assert [each["interrupt_id"] for each in shown["interrupts"]] == [question.interrupt_id]
    table = call("show", "ann-1").stdout
    for seen in (shown["checkpoint_id"], shown["parent_id"], question.task_id, question.interrupt_id, "user = ann"):
        assert seen in table
    asked = table.partition("pending interrupt")[2].splitlines()[2]
    time = f"{question.created_at:%Y-%m-%d %H:%M:%S}"
    assert asked.split() == [question.interrupt_id, *time.split(), '{"publish":"bread"}']


def test_show_has_what_a_delta_channel_is_rebuilt_from(
    call: Callable[..., Result], ask: Callable[..., Any], url: str
) -> None:
    ways = set()
    with open_saver(url) as saver:
        graph = graphs.delta_graph(saver, 3)
        config: Any = {"configurable": {"thread_id": "deltas"}}
        for turn in range(3):
            graph.invoke(graphs.both(f"turn {turn}"), config)
        states = list(graph.get_state_history(config))
    for state in states:
        id_ = state.config["configurable"]["checkpoint_id"]
        shown = ask("show", "deltas", "--checkpoint-id", id_)
        ways.add((*shown["channels"].keys() & {"delta"}, *shown["delta_channels"]))
        value = shown["channels"].get("delta", [])
        for delta in shown["delta_channels"].values():
            assert delta["error"] is None
            value = [*(delta["begins_with"] or []), *(item for written in delta["writes"] for item in written)]
            if delta["begins_with"] is None and delta["writes"]:
                table = call("show", "deltas", "--checkpoint-id", id_).stdout
                assert json.dumps(delta["writes"], separators=(",", ":")) in table
        assert value == state.values.get("delta", [])
    assert {("delta",), ()} <= ways


def test_show_has_the_rest_of_a_checkpoint_whose_delta_channel_is_damaged(
    call: Callable[..., Result], ask: Callable[..., Any], url: str
) -> None:
    with open_saver(url) as saver:
        graphs.delta_graph(saver, graphs.LONG).invoke(graphs.both("a turn"), {"configurable": {"thread_id": "deltas"}})
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db, db:
        assert db.execute("UPDATE writes SET root = x'00' WHERE channel = 'delta'").rowcount
    shown = ask("show", "deltas")
    assert shown["channels"]["plain"][0] == "a turn"
    assert "a stored value cannot be read" in shown["delta_channels"]["delta"]["error"]
    assert "cannot be read: " in call("show", "deltas").stdout


def test_show_finds_a_checkpoint_by_its_id_and_namespace(ask: Callable[..., Any], url: str) -> None:
    for namespace, id_ in checkpoints(url, "ann-1"):
        shown = ask("show", "ann-1", "--ns", namespace, "--checkpoint-id", id_)
        assert (shown["checkpoint_ns"], shown["checkpoint_id"]) == (namespace, id_)
        assert bool(shown["interrupts"]) == (id_ == ask("show", "ann-1")["checkpoint_id"])


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
    "arguments",
    [
        ["show", ""],
        ["show", "ann-1", "--checkpoint-id", ""],
        ["interrupts", "--thread", ""],
        ["history", ""],
        ["delete", "", "--yes"],
        ["copy", "ann-1", ""],
        ["prune", "", "--yes"],
        ["schema", "postgres", "--schema", ""],
        ["schema", "postgres", "--grant-to", ""],
    ],
    ids=str,
)
def test_an_empty_id_is_an_error_and_not_left_out(call: Callable[..., Result], arguments: list[str]) -> None:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search("is empty|schema ''", result.stderr)


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
