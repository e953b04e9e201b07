"""What the command line changes, read back by another saver."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command

from checkpoint_base import CheckpointSaver, CorruptCheckpoint, InvalidKey, cli, open_saver
from checkpoint_base.cli import moving
from tests.cli.conftest import (
    HOSTILE_ID,
    Terminal,
    checkpoints,
    everything,
    graph,
    on_a_terminal,
    process,
    rows,
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
    assert rows(url, "torn", "writes") == 1
    done = call("delete", "torn", "nobody", "ann-1", "--missing-ok", "--yes")
    count = len(before["ann-1"])
    assert (done.exit_code, done.stdout) == (
        0,
        f"Deleted threads 'torn', 'nobody', 'ann-1' with {count} checkpoints.\n",
    )
    assert rows(url, "torn", "writes") == 0
    assert everything(url) == {**before, "ann-1": []}


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


@pytest.mark.parametrize("other", ["link.db", "./copy.db", "%63opy.db"])
def test_the_store_is_no_other_one_however_its_file_is_named(
    call: Callable[..., Result], url: str, tmp_path: Path, other: str
) -> None:
    assert url == f"sqlite:///{tmp_path}/copy.db"
    (tmp_path / "link.db").symlink_to(tmp_path / "copy.db")
    result = call("transfer", "--all", "--to", f"sqlite:///{tmp_path}/{other}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--to names the store that is copied" in result.stderr


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
