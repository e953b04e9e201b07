"""`checkpoints prune`, read back by another saver."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command

from checkpoint_base import ConflictError, cli, codec, open_saver
from checkpoint_base.sqlite.store import SQLiteStore
from conformance_tests import graphs
from tests.cli.conftest import (
    EVERY_THREAD,
    HOSTILE_ID,
    Terminal,
    checkpoints,
    everything,
    graph,
    rows,
    start,
)


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


def test_threads_that_nobody_used_for_long_are_pruned(call: Callable[..., Result], aged: str) -> None:
    before = everything(aged)
    assert "in 0 threads" in call("prune", "--idle", "41d", "--yes").stdout
    assert everything(aged) == before
    assert "in 4 threads" in call("prune", "--idle", "5w", "--yes").stdout
    after = everything(aged)
    assert after["bob-1"] == before["bob-1"]
    assert all(len(after[thread]) == 2 < len(before[thread]) for thread in EVERY_THREAD if thread != "bob-1")


@pytest.mark.parametrize(("shorter", "longer"), [("57590m", "57660m"), ("959h", "961h"), ("39d", "41d"), ("5w", "6w")])
def test_an_idle_time_is_counted_in_the_unit_that_it_names(
    call: Callable[..., Result], aged: str, shorter: str, longer: str
) -> None:
    assert "in 4 threads" in call("prune", "--idle", shorter, "--dry-run").stdout
    assert "in 0 threads" in call("prune", "--idle", longer, "--dry-run").stdout


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
    before = rows(url, "bob-1", "checkpoints")
    for entry in ("user=ann", "user=bob", "nothing=null"):
        assert call("prune", "--all", "--metadata", entry, "--strategy", "delete", "--yes").exit_code == 0
    assert rows(url, "bob-1", "checkpoints") == before > 0
    assert rows(url, "ann-1", "checkpoints") == 0


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


def test_calls_in_an_encrypted_thread_are_counted_without_its_key(tmp_path: Path) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    url = f"sqlite:///{tmp_path}/encrypted.db"
    with open_saver(url, serde=serde) as saver:
        for turn in range(3):
            config: Any = {"configurable": {"thread_id": "calls"}}
            graphs.question_in_a_subgraph(saver, Counter()).invoke({"log": [f"turn {turn}"]}, config)
        before = len(list(saver.list(None)))
    pruned = CliRunner().invoke(cli.main, ["--store", url, "prune", "calls", "--yes"])
    with open_saver(url, serde=serde) as saver:
        left = len(list(saver.list(None)))
    assert left == 1 + 1
    assert pruned.stdout == f"Removed {before - left} of {before} checkpoints in 1 thread.\n"
