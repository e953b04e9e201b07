"""What the command line changes, read back by another saver."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command

from checkpoint_base import CheckpointSaver, ConflictError, CorruptCheckpoint, InvalidKey, cli, codec, open_saver
from checkpoint_base.cli import moving
from checkpoint_base.sqlite.store import SQLiteStore
from conformance_tests import graphs
from tests.cli.conftest import (
    EVERY_THREAD,
    HOSTILE_ID,
    Terminal,
    checkpoints,
    everything,
    graph,
    on_a_terminal,
    process,
    start,
)

# Changes


def test_delete_with_yes_removes_the_named_threads_only(call: Callable[..., Result], url: str) -> None:
    before = everything(url)
    result = call("delete", "ann-1", HOSTILE_ID, "ann-1", "--yes")
    assert (result.exit_code, result.stderr) == (0, "")
    count = len(before["ann-1"]) + len(before[HOSTILE_ID])
    assert result.stdout.startswith("Deleted threads 'ann-1', '[red]x")
    assert f"with {count} checkpoints." in result.stdout
    assert everything(url) == {**before, "ann-1": [], HOSTILE_ID: []}
    told = json.loads(call("delete", "bob-1", "--yes", "--json").stdout)
    assert told == {"threads": ["bob-1"], "checkpoints": len(before["bob-1"])}
    assert checkpoints(url, "bob-1") == []


def test_delete_removes_nothing_if_one_of_the_threads_is_missing(call: Callable[..., Result], url: str) -> None:
    before = everything(url)
    result = call("delete", "ann-1", "nobody", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no thread 'nobody'; nothing was deleted")
    assert everything(url) == before


def test_what_is_left_of_a_thread_without_checkpoints_can_be_deleted(call: Callable[..., Result], url: str) -> None:
    config: Any = {"configurable": {"thread_id": "torn", "checkpoint_ns": "", "checkpoint_id": "never-stored"}}
    with open_saver(url) as saver:
        saver.put_writes(config, [("topic", "personal")], "task")
    before = everything(url)
    refused = call("delete", "torn", "ann-1", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "there is no thread 'torn'; nothing was deleted (--missing-ok deletes" in refused.stderr
    assert rows(url, "torn") == 1
    done = call("delete", "torn", "nobody", "ann-1", "--missing-ok", "--yes")
    count = len(before["ann-1"])
    assert (done.exit_code, done.stdout) == (
        0,
        f"Deleted threads 'torn', 'nobody', 'ann-1' with {count} checkpoints.\n",
    )
    assert rows(url, "torn") == 0
    assert everything(url) == {**before, "ann-1": []}


def rows(url: str, thread: str) -> int:
    """How many writes the file has of a thread."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
        (found,) = file.execute(
            "SELECT count(*) FROM writes JOIN namespaces USING (namespace) JOIN threads USING (thread) "
            "WHERE thread_id = ?",
            (thread,),
        ).fetchone()
    file.close()
    return int(found)


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
        told = json.loads(call("delete", "bob-1", "--yes", "--json").stdout)
    assert result.stdout == "Deleted thread 'ann-1' with checkpoints that cannot be read.\n"
    assert told == {"threads": ["bob-1"], "checkpoints": None}
    assert checkpoints(url, "ann-1") == checkpoints(url, "bob-1") == []


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
    assert stderr.partition("[y/N] ")[2].startswith("\n") == (answer == "\x04")  # a terminal shows what was typed
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
    assert stderr.endswith("\n")
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
    again = json.loads(call("copy", "ann-1", "triplet", "--json").stdout)
    assert again == {"source": "ann-1", "target": "triplet", "checkpoints": len(expected)}
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


@pytest.mark.parametrize("keep", [1, 3])
def test_pruning_keeps_as_many_checkpoints_as_it_is_told(call: Callable[..., Result], url: str, keep: int) -> None:
    before = everything(url)
    result = call("prune", "ann-1", "bob-1", "--keep", str(keep), "--yes", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    pruned = {
        thread: [
            one
            for space in {space for space, _ in before[thread]}
            for one in [stored for stored in before[thread] if stored[0] == space][:keep]
        ]
        for thread in ("ann-1", "bob-1")
    }
    after = everything(url)
    assert {thread: sorted(found) for thread, found in after.items()} == {
        thread: sorted(found) for thread, found in {**before, **pruned}.items()
    }
    removed = sum(len(before[thread]) - len(kept) for thread, kept in pruned.items())
    assert json.loads(result.stdout)["removed"] == removed > 0


def test_calls_of_subgraphs_are_counted_with_the_checkpoint_at_which_they_began(
    ask: Callable[..., Any], url: str
) -> None:
    with open_saver(url) as saver:
        graph = graphs.question_in_a_subgraph(saver, Counter())
        for turn in range(3):
            graph.invoke({"log": [f"turn {turn}"]}, {"configurable": {"thread_id": "calls"}})
    assert len({ns for ns, _ in checkpoints(url, "calls")}) == 1 + 3
    for keep in ("4", "2", "1"):
        plan = ask("prune", "calls", "--keep", keep, "--dry-run")
        assert ask("prune", "calls", "--keep", keep, "--yes") == {**plan, "dry_run": False}
        assert len(checkpoints(url, "calls")) == plan["checkpoints"] - plan["removed"]
    assert len(checkpoints(url, "calls")) == 1 + 1


def test_a_dry_run_and_a_confirmation_name_the_threads_that_lose_something(
    call: Callable[..., Result], url: str
) -> None:
    call("prune", *(thread for thread in EVERY_THREAD if thread != "bob-1"), "--yes")
    _, _, *rows, _, total = call("prune", "--all", "--dry-run").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["bob-1"]
    assert total.endswith("in 5 threads.")
    _, _, stderr = Terminal.open("--store", url, "prune", "--all").type("n\n")
    assert "in thread 'bob-1'? [y/N]" in stderr


@pytest.fixture
def aged(url: str) -> str:
    """The filled store, as if all threads but one had last changed 40 days ago."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE threads SET updated_at = updated_at - 40 * 86400 * 1000000 WHERE thread_id <> 'bob-1'")
    db.close()
    return url


def test_threads_that_nobody_used_for_long_are_pruned(call: Callable[..., Result], aged: str) -> None:
    before = everything(aged)
    assert "in 0 threads" in call("prune", "--idle", "41d", "--yes").stdout
    assert everything(aged) == before
    assert "in 4 threads" in call("prune", "--idle", "5w", "--yes").stdout
    after = everything(aged)
    assert after["bob-1"] == before["bob-1"]
    assert all(len(after[thread]) == 2 < len(before[thread]) for thread in EVERY_THREAD if thread != "bob-1")


def test_idle_threads_are_deleted_but_for_those_that_wait_for_an_answer(call: Callable[..., Result], aged: str) -> None:
    before = everything(aged)
    shown = call("prune", "--idle", "959h", "--strategy", "delete", "--dry-run", "--json")
    assert [plan["thread_id"] for plan in json.loads(shown.stdout)["threads"]] == ["done"]
    assert everything(aged) == before
    assert call("prune", "--idle", "959h", "--strategy", "delete", "--yes").exit_code == 0
    assert everything(aged) == {**before, "done": []}


def test_a_thread_with_a_damaged_time_keeps_no_other_from_being_pruned(call: Callable[..., Result], aged: str) -> None:
    with sqlite3.connect(aged.removeprefix("sqlite:///")) as db:
        db.execute("UPDATE threads SET updated_at = -5 WHERE thread_id = 'ann-1'")
    db.close()
    shown = call("prune", "--idle", "30d", "--strategy", "delete", "--dry-run", "--json")
    assert [plan["thread_id"] for plan in json.loads(shown.stdout)["threads"]] == ["done"]


def test_a_thread_that_goes_on_before_the_confirmation_is_not_idle_any_more(aged: str) -> None:
    terminal = Terminal.open("--store", aged, "prune", "--idle", "30d", "--strategy", "delete")
    assert terminal.process.stderr is not None
    assert terminal.process.stderr.read(len("Remove")) == "Remove"
    with open_saver(aged) as saver:
        start(saver, "done")
    before = everything(aged)
    code, stdout, _ = terminal.type("y\n")
    assert (code, everything(aged)) == (0, before)
    assert stdout.startswith("Removed 0 of ")


def test_pruning_can_be_for_the_threads_of_some_metadata_alone(call: Callable[..., Result], aged: str) -> None:
    before = everything(aged)
    assert "in 2 threads" in call("prune", "--idle", "30d", "--metadata", "user=ann", "--yes").stdout
    pruned = everything(aged)
    assert [thread for thread in EVERY_THREAD if pruned[thread] != before[thread]] == ["ann-1", "ann-2"]
    options = ("--all", "--metadata", "user=ann", "--metadata", "age=7", "--strategy", "delete", "--yes")
    assert call("prune", *options).exit_code == 0
    assert everything(aged) == {**before, "ann-1": [], "ann-2": []}


def raw_checkpoints(url: str, thread: str) -> int:
    """The number of a thread's checkpoints, counted where damage does not matter."""
    of_thread = "SELECT count(*) FROM checkpoints JOIN namespaces USING (namespace) JOIN threads USING (thread) "
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
        [count] = file.execute(of_thread + "WHERE thread_id = ?", [thread]).fetchone()
        return int(count)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE checkpoints SET header = x'00' WHERE namespace IN (SELECT n.namespace FROM namespaces n "
        "JOIN threads t ON t.thread = n.thread WHERE t.thread_id = 'bob-1')",
        "UPDATE threads SET updated_at = -5 WHERE thread_id = 'bob-1'",
    ],
    ids=["header", "time"],
)
def test_a_damaged_thread_is_not_taken_for_one_of_some_metadata(
    call: Callable[..., Result], url: str, damage: str
) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
        file.execute(damage)
        assert file.total_changes
    file.close()
    before = raw_checkpoints(url, "bob-1")
    for entry in ("user=ann", "user=bob", "nothing=null"):
        assert call("prune", "--all", "--metadata", entry, "--strategy", "delete", "--yes").exit_code == 0
    assert raw_checkpoints(url, "bob-1") == before > 0
    assert raw_checkpoints(url, "ann-1") == 0


def test_a_thread_that_becomes_another_user_s_before_the_confirmation_stays(url: str) -> None:
    terminal = Terminal.open("--store", url, "prune", "--all", "--metadata", "user=bob", "--strategy", "delete")
    assert terminal.process.stderr is not None
    assert terminal.process.stderr.read(len("Remove")) == "Remove"
    with open_saver(url) as saver:
        start(saver, "bob-1", user="ann")
    before = everything(url)
    code, stdout, _ = terminal.type("y\n")
    assert (code, everything(url)) == (0, before)
    assert stdout.startswith("Removed 0 of ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the threads to prune, or pass either --all or --idle"),
        (["ann-1", "--all"], "pass either --all or --idle"),
        (["ann-1", "--idle", "1d"], "pass either --all or --idle"),
        (["--idle", "1d", "--all"], "pass either --all or --idle"),
        (["--metadata", "user=ann"], "pass either --all or --idle"),
        (["ann-1", "--metadata", "user=ann"], "--metadata chooses among the threads of --all or --idle"),
        (["--all", "--metadata", "user"], "write KEY=VALUE, every key once, not 'user'"),
        (["--idle", "30"], "write a number with m, h, d or w behind it, such as 30d, not '30'"),
        (["--idle", "-1d"], "write a number"),
        (["--idle", "999999w"], "write a number"),
        (["ann-1", "--keep", "0"], "0 is not in the range"),
        (["ann-1", "--keep", "2", "--strategy", "delete"], "--keep with the strategy delete, which keeps nothing"),
    ],
)
def test_a_wrong_request_to_prune_is_refused(
    call: Callable[..., Result], url: str, arguments: list[str], message: str
) -> None:
    before = everything(url)
    result = call("prune", *arguments, "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())
    assert everything(url) == before


def test_with_nothing_to_prune_nobody_is_asked(call: Callable[..., Result]) -> None:
    call("prune", "--all", "--yes")
    result = call("prune", "--all")
    assert result.exit_code == 0
    assert result.stdout.startswith("Removed 0 of ")


def test_threads_that_have_nothing_to_remove_are_not_pruned(
    call: Callable[..., Result], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("prune", "ann-1", "--yes")
    before = everything(url)
    asked: list[str] = []
    prune = SQLiteStore.prune

    def noting(store: SQLiteStore, thread_ids: Sequence[str], keep: int) -> Any:
        asked.extend(thread_ids)
        return prune(store, thread_ids, keep)

    monkeypatch.setattr(SQLiteStore, "prune", noting)
    assert call("prune", "--all", "--yes").exit_code == 0
    assert sorted(asked) == sorted(set(EVERY_THREAD) - {"ann-1"})
    after = everything(url)
    assert after["ann-1"] == before["ann-1"]
    assert all(len(after[thread]) < len(before[thread]) for thread in asked)


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
        assert last.startswith("Error: 1 thread could not be pruned and lost nothing")
    assert {thread: len(checkpoints(url, thread)) for thread in EVERY_THREAD if thread != "bob-1"} == {
        "ann-1": 2, "ann-2": 2, HOSTILE_ID: 2, "done": 2,
    }  # fmt: skip
    document = json.loads(call("prune", "--all", "--yes", "--json").stdout)
    assert [each["thread_id"] for each in document["failed"]] == ["bob-1"]
    with sqlite3.connect(url.removeprefix("sqlite:///")) as file:
        left = file.execute("SELECT count(*) FROM checkpoints WHERE header = x'00'").fetchone()
    file.close()
    assert left == (len(before["bob-1"]),)


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_a_thread_whose_pruning_fails_is_told_at_the_end_and_not_counted(
    call: Callable[..., Result], url: str, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    before = everything(url)
    prune = SQLiteStore.prune

    def conflicting(store: SQLiteStore, thread_ids: Sequence[str], keep: int) -> Any:
        if "bob-1" in thread_ids:
            raise ConflictError("thread 'bob-1' is being changed at the same time")
        return prune(store, thread_ids, keep)

    monkeypatch.setattr(SQLiteStore, "prune", conflicting)
    result = call("prune", "--all", "--yes", *form)
    after = everything(url)
    removed = sum(len(before[thread]) - len(after[thread]) for thread in EVERY_THREAD)
    assert after["bob-1"] == before["bob-1"]
    assert (result.exit_code, removed > 0) == (1, True)
    first, last = result.stderr.splitlines()
    assert first == "thread 'bob-1' is being changed at the same time"
    assert last.startswith("Error: 1 thread could not be pruned and lost nothing")
    if form:
        document = json.loads(result.stdout)
        assert document["removed"] == removed
        assert {each["thread_id"]: each["removed"] for each in document["threads"]}["bob-1"] == 0
        assert [each["thread_id"] for each in document["failed"]] == ["bob-1"]
    else:
        assert result.stdout.startswith(f"Removed {removed} of ")


def test_threads_that_are_named_twice_are_pruned_and_copied_once(
    ask: Callable[..., Any], url: str, tmp_path: Path
) -> None:
    count = len(checkpoints(url, "ann-1"))
    for command in (["prune", "--dry-run"], ["prune", "--yes"]):
        document = ask(*command, "ann-1", "bob-1", "ann-1")
        assert [each["thread_id"] for each in document["threads"]] == ["ann-1", "bob-1"]
        assert document["threads"][0]["checkpoints"] == count
    document = ask("transfer", "ann-1", "ann-1", "--to", f"sqlite:///{tmp_path}/other.db")
    assert [each["thread_id"] for each in document["threads"]] == ["ann-1"]


def test_of_many_threads_the_first_are_named_and_the_others_counted(call: Callable[..., Result], url: str) -> None:
    with open_saver(url) as saver:
        for number in range(7):
            saver.copy_thread("ann-1", f"copy {number}")
    names = [f"copy {number}" for number in range(7)]
    result = call("delete", *names, "--yes", "--json")
    assert (result.exit_code, json.loads(result.stdout)["threads"]) == (0, names)
    result = call("delete", *names, "--yes")
    assert result.stderr.startswith(
        "Error: there are no threads 'copy 0', 'copy 1', 'copy 2', 'copy 3', 'copy 4' and 2 more;"
    )


def test_what_a_later_version_stored_keeps_no_other_thread_from_being_pruned_and_can_be_deleted(
    call: Callable[..., Result], url: str
) -> None:
    with open_saver(url) as saver, pytest.MonkeyPatch.context() as newer:
        newer.setattr(codec, "_FORMAT", 2)
        start(saver, "later")
    result = call("prune", "--all", "--yes")
    assert result.exit_code == 1
    assert result.stdout.endswith(f"in {len(EVERY_THREAD)} threads.\n")
    assert re.match(r"checkpoint \S+ of thread 'later': .* upgrade checkpoint-backends\n", result.stderr)
    assert call("delete", "later", "--yes").stdout == "Deleted thread 'later' with checkpoints that cannot be read.\n"


def test_encrypted_threads_are_pruned_without_their_key(tmp_path: Path) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    url = f"sqlite:///{tmp_path}/encrypted.db"
    with open_saver(url, serde=serde) as saver:
        for thread in ("plain", "secret"):
            start(saver, thread)
        before = len(list(saver.list(None)))
        spaces = {each.config["configurable"]["checkpoint_ns"] for each in saver.list(None)}
    pruned = CliRunner().invoke(cli.main, ["--store", url, "prune", "--all", "--yes"])
    left = 2 * len(spaces)
    assert (pruned.exit_code, pruned.stderr) == (0, "")
    assert pruned.stdout == f"Removed {before - left} of {before} checkpoints in 2 threads.\n"
    deleted = CliRunner().invoke(cli.main, ["--store", url, "prune", "secret", "--strategy", "delete", "--yes"])
    assert (deleted.exit_code, deleted.stdout) == (0, f"Removed {left // 2} of {left // 2} checkpoints in 1 thread.\n")
    with open_saver(url, serde=serde) as saver:
        assert len(list(saver.list({"configurable": {"thread_id": "plain"}}))) == left // 2
        assert list(saver.list({"configurable": {"thread_id": "secret"}})) == []


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


def test_transfer_of_a_thread_that_goes_on_counts_what_was_sent_and_what_was_there(
    ask: Callable[..., Any], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    real = moving.transfer_counting

    def meanwhile(source: CheckpointSaver, target: CheckpointSaver, thread: str) -> Any:
        with open_saver(url) as service:
            graph(service).update_state({"configurable": {"thread_id": thread}}, {"topic": "rye"})
        return real(source, target, thread)

    monkeypatch.setattr(moving, "transfer_counting", meanwhile)
    before = len(checkpoints(url, "done"))
    first, second = (ask("transfer", "done", "--to", other) for _ in range(2))
    assert (first["checkpoints"], first["sent"]) == (before + 1, before + 1)
    # The new one, and the one before, which has got the update as a write.
    assert (second["checkpoints"], second["sent"]) == (before + 2, 2)
    assert checkpoints(other, "done") == checkpoints(url, "done")


def test_transfer_copies_encrypted_threads_without_their_key(tmp_path: Path) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    here, there = (f"sqlite:///{tmp_path}/{name}.db" for name in ("here", "there"))
    with open_saver(here, serde=serde) as saver:
        start(saver, "secret")
        expected = list(saver.list(None))
    result = CliRunner().invoke(cli.main, ["--store", here, "transfer", "--all", "--to", there])
    assert (result.exit_code, result.stdout) == (0, f"Copied {len(expected)} checkpoints of 1 thread.\n")
    with open_saver(there, serde=serde) as saver:
        assert list(saver.list(None)) == expected


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


def test_transfer_goes_on_behind_a_thread_that_the_target_cannot_hold(
    call: Callable[..., Result], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moving.transfer_counting

    def refusing(source: CheckpointSaver, target: CheckpointSaver, thread: str) -> Any:
        if thread == "bob-1":
            raise InvalidKey("channel 'kkk' is longer than 2000 bytes")
        return real(source, target, thread)

    monkeypatch.setattr(moving, "transfer_counting", refusing)
    other = f"sqlite:///{tmp_path}/other.db"
    result = call("transfer", "--all", "--to", other)
    assert result.exit_code == 1
    assert result.stderr == (
        "thread 'bob-1': channel 'kkk' is longer than 2000 bytes\nError: 1 thread could not be copied\n"
    )
    assert everything(other) == {**everything(url), "bob-1": []}


def test_transfer_copies_only_the_threads_that_have_changed_lately_or_are_new(
    call: Callable[..., Result], ask: Callable[..., Any], aged: str, tmp_path: Path
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    call("transfer", "--all", "--to", other)
    with open_saver(aged) as saver:
        start(saver, "done")
        saver.copy_thread("ann-1", "twin")  # has the times of its source
    copied = ask("transfer", "--changed", "39d", "--to", other)
    assert sorted(each["thread_id"] for each in copied["threads"]) == ["bob-1", "done", "twin"]
    assert {each["thread_id"]: each["sent"] > 0 for each in copied["threads"]} == {
        "bob-1": False,
        "done": True,
        "twin": True,
    }
    assert checkpoints(other, "twin") == checkpoints(aged, "twin")
    assert everything(other) == everything(aged)


def test_the_target_of_a_transfer_may_be_named_where_no_process_list_shows_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("CHECKPOINT_STORE", url)
    monkeypatch.setenv("CHECKPOINT_TARGET", other)
    assert CliRunner().invoke(cli.main, ["transfer", "--all"]).exit_code == 0
    assert everything(other) == everything(url)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--to", "sqlite:///{folder}/x.db"], 2, "name the threads to copy, or pass either --all or --changed"),
        (["--all", "a", "--to", "sqlite:///{folder}/x.db"], 2, "name the threads to copy, or pass either"),
        (["--changed", "1h", "a", "--to", "sqlite:///{folder}/x.db"], 2, "name the threads to copy, or pass either"),
        (["--all", "--changed", "1h", "--to", "sqlite:///{folder}/x.db"], 2, "name the threads to copy, or pass"),
        (["--all"], 2, "--to"),
        (["nobody", "--to", "sqlite:///{folder}/x.db"], 1, "there is no thread 'nobody'; nothing was copied"),
        (["--all", "--to", "{url}"], 2, "--to names the store that is copied: write the URL of another one"),
        (["--all", "--to", "{url}?deadline=5"], 2, "--to names the store that is copied"),
        (["--all", "--to", "sqlite://"], 2, "a store in memory ends with this command: write --to sqlite:///file.db"),
        (["--all", "--to", "sqlite:///:memory:?deadline=5"], 2, "a store in memory ends with this command"),
        (["--all", "--to", "sqlite:///%3Amemory:"], 2, "a store in memory ends with this command"),
        (["--all", "--to", "sqlite://x.db"], 1, "write sqlite:///x.db"),
        (["--all", "--to", "nosuch://x"], 1, "no installed package opens nosuch:// URLs"),
        (["--all", "--to", "sqlite:///{folder}/none/x.db"], 1, "none/x.db"),
    ],
    ids=str,
)
def test_a_transfer_that_cannot_be_done_says_why(
    call: Callable[..., Result], url: str, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    result = call("transfer", *(part.format(url=url, folder=tmp_path) for part in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr


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
    assert "Listing threads" in shown
    assert doing in shown
    assert done in shown.splitlines()[-1]
    piped = process(*command)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout.startswith(done)


# However long an attempt takes, there are three.
THREE_ATTEMPTS = (
    "from checkpoint_base import transport; transport._pauses = lambda _: iter([0, 0])\n"
    "from checkpoint_base.cli import main; main()"
)


def test_whoever_waits_at_a_terminal_is_told_once_that_the_store_does_not_answer() -> None:
    nobody = "redis://127.0.0.1:1/0?deadline=0"
    code, shown = on_a_terminal("--store", nobody, "threads", columns=300, program=("-c", THREE_ATTEMPTS))
    waiting, error = shown.splitlines()
    assert (code, waiting[:41], error[:32]) == (
        3,
        "The store does not answer yet; trying aga",
        "Error: the store is unavailable:",
    )
    piped = process("--store", nobody, "threads")
    assert (piped.returncode, piped.stderr.splitlines()) == (3, [error])
