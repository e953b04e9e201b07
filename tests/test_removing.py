"""What is removed, what stays because something needs it, and what a copy has of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import (
    ConflictError,
    InvalidKey,
    SQLiteSaver,
    UnsupportedOperation,
)
from checkpoint_base.records import Missing
from checkpoint_base.store import MAX_KEPT, THREADS_AT_ONCE
from checkpoint_base.transport import Operation
from tests.conftest import CONFIG, config_of, counted, put

# Threads that are removed while a run goes on


@pytest.mark.parametrize("strategy", ["keep_latest", "delete"])
def test_many_threads_are_pruned_in_several_requests(
    strategy: str, saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    method = {"keep_latest": "prune", "delete": "delete_threads"}[strategy]
    original = getattr(type(saver.store), method)

    def noted(store: Any, thread_ids: Any, *more: Any) -> Any:
        sizes.append(len(thread_ids))
        return original(store, thread_ids, *more)

    monkeypatch.setattr(type(saver.store), method, noted)
    names = [f"t{number}" for number in range(250)]
    for name in names:
        put(saver, {"a": 1}, put(saver, {"a": 0}, config_of(name, checkpoint_ns="")))
    transport = counted(saver)
    saver.prune(names, strategy=strategy)
    assert transport.requests == 4, "other writers wait for one request, not for all"
    assert (max(sizes), sum(sizes)) == (THREADS_AT_ONCE, len(names))
    left = {found.config["configurable"]["thread_id"]: found for found in saver.list(None)}
    assert sorted(left) == ([] if strategy == "delete" else sorted(names))
    assert all(found.checkpoint["channel_values"] == {"a": 1} for found in left.values())


def test_a_text_in_the_place_of_several_ids_removes_nothing(saver: SQLiteSaver) -> None:
    for name in "abc":
        put(saver, {"a": 1}, config_of(name, checkpoint_ns=""), run_id=name)
    removals: list[Callable[[Any], None]] = [
        saver.prune,
        saver.delete_for_runs,
        lambda ids: saver.prune(ids, strategy="delete"),
        lambda ids: asyncio.run(saver.aprune(ids, strategy="delete")),
        lambda ids: asyncio.run(saver.adelete_for_runs(ids)),
    ]
    for remove in removals:
        with pytest.raises(InvalidKey, match="must be a sequence of texts, not str"):
            remove("ab")
    assert {found.thread_id for found in saver.threads()} == {*"abc"}


@pytest.mark.parametrize("keep", [True, 1.0, "1", None, 0, -1, 2**31])
def test_a_number_to_keep_that_is_none_removes_nothing(saver: SQLiteSaver, keep: Any) -> None:
    put(saver, {"a": 2}, put(saver, {"a": 1}))
    with pytest.raises(UnsupportedOperation, match="pass how many checkpoints of each namespace to keep"):
        saver.prune(["thread"], keep=keep)
    assert len(list(saver.history(CONFIG))) == 2


def test_the_greatest_number_to_keep_keeps_everything(saver: SQLiteSaver) -> None:
    put(saver, {"a": 2}, put(saver, {"a": 1}))
    saver.prune(["thread"], keep=MAX_KEPT)
    assert len(list(saver.history(CONFIG))) == 2


def test_what_is_removed_again_and_again_while_it_is_stored_is_a_conflict(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(saver, {"a": 1})
    attempts: list[str] = []

    def removed(name: str) -> Callable[..., Operation[Missing]]:
        def store(*_: Any) -> Operation[Missing]:
            yield from ()
            attempts.append(name)
            return Missing(chunks=frozenset({b"0" * 16}))

        return store

    for name in ("put", "put_writes"):
        monkeypatch.setattr(saver.store, name, removed(name))
    with pytest.raises(ConflictError, match="could not be stored: its thread is being removed at the same time"):
        put(saver, {"a": 2}, first)
    with pytest.raises(ConflictError, match="could not be stored: their thread is being removed at the same time"):
        saver.put_writes(first, [("a", "x" * 3000)], "task")
    assert attempts == ["put", "put", "put_writes", "put_writes"]


def test_a_run_whose_thread_is_deleted_stores_its_whole_state_again(saver: SQLiteSaver, path: Path) -> None:
    first = put(saver, {"kept": ["x" * 2000] * 3, "n": 1})
    versions = saver.get_tuple(first).checkpoint["channel_versions"]  # type: ignore[union-attr]
    with SQLiteSaver(path) as other:
        other.delete_thread("thread")
    following = saver.get_next_version(versions["n"])
    checkpoint: Any = {
        **empty_checkpoint(),
        "channel_values": {"kept": ["x" * 2000] * 3, "n": 2},
        "channel_versions": {**versions, "n": following},
    }
    stored = saver.put(first, checkpoint, {"step": 2}, {"n": following})
    with SQLiteSaver(path) as other:
        found = other.get_tuple(stored)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"kept": ["x" * 2000] * 3, "n": 2}


def test_a_task_whose_thread_is_deleted_stores_its_writes_whole_even_if_a_copy_has_their_chunks(
    saver: SQLiteSaver, path: Path
) -> None:
    output = ["x" * 2000] * 3
    first = put(saver, {"log": output})
    with SQLiteSaver(path) as other:
        other.copy_thread("thread", "copy")
        other.delete_thread("thread")
        saver.put_writes(first, [("log", output)], "task")
        checkpoint: Any = {**empty_checkpoint(), "id": first["configurable"]["checkpoint_id"]}
        found = other.get_tuple(other.put(CONFIG, checkpoint, {}, {}))
    assert found is not None
    assert found.pending_writes == [("task", "log", output)]


def test_a_checkpoint_whose_ancestors_writes_are_gone_is_a_conflict(saver: SQLiteSaver) -> None:
    first = put(saver, {"n": 1})
    saver.copy_thread("thread", "copy")  # has a checkpoint of that id as well
    saver.delete_thread("thread")
    checkpoint: Any = {**empty_checkpoint(), "channel_versions": {"log": "2.1"}}
    with pytest.raises(ConflictError, match="log would be rebuilt from"):
        saver.put(first, checkpoint, {"counters_since_delta_snapshot": {"log": (1, 1)}}, {"log": "2.1"})
    assert [each.thread_id for each in saver.history(None)] == ["copy"]


def test_early_writes_survive_the_deletion_of_the_only_run(saver: SQLiteSaver) -> None:
    put(saver, {"n": 1}, run_id="run-1")
    put(saver, {"n": 1}, config_of("other"))
    saver.put_writes(config_of("thread", checkpoint_id="9"), [("n", 2)], "task")
    saver.delete_for_runs(["run-1"])
    assert [thread.thread_id for thread in saver.threads()] == ["other"]
    checkpoint: Any = {**empty_checkpoint(), "id": "9"}
    found = saver.get_tuple(saver.put(CONFIG, checkpoint, {}, {}))
    assert found is not None
    assert found.pending_writes == [("task", "n", 2)]
    assert [thread.thread_id for thread in saver.threads()] == ["thread", "other"]


def test_a_run_on_a_retired_parent_that_lost_its_writes_is_a_conflict(saver: SQLiteSaver, path: Path) -> None:
    def put_delta(parent: Any, id_: str, values: dict[str, Any], opened: list[str], versions: dict[str, str]) -> Any:
        checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_values": values, "channel_versions": versions}
        metadata: Any = {"counters_since_delta_snapshot": dict.fromkeys(opened, (1, 1))}
        return saver.put(parent, checkpoint, metadata, versions)

    one = put_delta(CONFIG, "1", {"x": ["x1"], "y": ["y1"]}, [], {"x": "1.1", "y": "1.1"})
    two = put_delta(one, "2", {}, ["x", "y"], {"x": "2.1", "y": "2.1"})
    saver.put_writes(two, [("x", "x3"), ("y", "y3")], "task")
    put_delta(two, "3", {"x": ["x1", "x3"]}, ["y"], {"x": "3.1", "y": "3.1"})
    saver.prune(["thread"])
    with pytest.raises(ConflictError, match="x, y would be rebuilt from"):
        put_delta(two, "4", {}, ["x", "y"], {"x": "4.1", "y": "4.1"})
    four = put_delta(two, "4", {"x": ["x1", "x3"]}, ["y"], {"x": "4.1", "y": "4.1"})
    with SQLiteSaver(path) as reader:
        history = reader.get_delta_channel_history(config=four, channels=["y"])
    assert history == {"y": {"seed": ["y1"], "writes": [("task", "y", "y3")]}}


def put_chain(saver: SQLiteSaver, runs: list[str]) -> Any:
    """Put checkpoints of these runs, each rebuilt from its ancestors; return the last."""
    stored = CONFIG
    for number, run_id in enumerate(runs):
        versions = {"log": f"{number}"}
        checkpoint: Any = {**empty_checkpoint(), "channel_versions": versions}
        metadata: Any = {"step": number, "run_id": run_id}
        if number:
            metadata["counters_since_delta_snapshot"] = {"log": (number, number)}
        else:
            checkpoint["channel_values"] = {"log": []}
        stored = saver.put(stored, checkpoint, metadata, versions)
        saver.put_writes(stored, [("log", number), ("plain", number)], "task")
    return stored


def test_a_listing_goes_on_behind_what_was_removed_but_is_needed(saver: SQLiteSaver, path: Path) -> None:
    put_chain(saver, ["kept", "kept", "gone", "gone", "gone", "kept"])
    saver.delete_for_runs(["gone"])
    with SQLiteSaver(path) as reader:
        for config in (None, config_of("thread"), CONFIG):
            for limit in (1, 2, 3, None):
                listed = [found.metadata["step"] for found in reader.list(config, limit=limit)]
                assert listed == [5, 1, 0][:limit]
                assert [found.metadata["step"] for found in reader.history(config, limit=limit)] == listed


def test_a_copy_keeps_what_is_removed_from_its_source_but_needed_there(saver: SQLiteSaver, path: Path) -> None:
    put_chain(saver, ["run"] * 4)
    saver.copy_thread("thread", "copy")
    with SQLiteSaver(path) as reader:
        before = list(reader.list(config_of("copy")))
        saver.prune(["thread"])
        assert [found.metadata["step"] for found in reader.history(config_of("thread"))] == [3]
        assert list(reader.list(config_of("copy"))) == before
        assert len(before) == 4


def test_a_pruned_copy_that_is_made_again_has_everything_of_its_source(saver: SQLiteSaver, path: Path) -> None:
    put_chain(saver, ["run"] * 4)
    saver.copy_thread("thread", "copy")
    with SQLiteSaver(path) as reader:
        before = list(reader.list(config_of("copy")))
        saver.prune(["copy"])
        assert len(list(reader.history(config_of("copy")))) == 1
        saver.copy_thread("thread", "copy")
        assert list(reader.list(config_of("copy"))) == before


def test_what_was_pruned_is_not_seen_in_a_copy_either(saver: SQLiteSaver, path: Path) -> None:
    last = put_chain(saver, ["run"] * 4)
    saver.prune(["thread"])
    saver.copy_thread("thread", "copy")
    in_the_copy = config_of("copy", checkpoint_id=last["configurable"]["checkpoint_id"])
    with SQLiteSaver(path) as reader:
        assert [found.metadata["step"] for found in reader.history(config_of("copy"))] == [3]
        history = reader.get_delta_channel_history(config=in_the_copy, channels=["log"])
    assert history == {"log": {"seed": [], "writes": [("task", "log", number) for number in range(3)]}}


def test_a_thread_is_copied_to_itself_without_a_request(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    before = list(saver.list(CONFIG))
    transport = counted(saver)
    saver.copy_thread("thread", "thread")
    assert transport.requests == 0
    assert list(saver.list(CONFIG)) == before


def test_a_latest_checkpoint_that_was_removed_but_is_needed_is_not_that_of_its_thread(
    saver: SQLiteSaver, path: Path
) -> None:
    # A clock that is behind, and so the checkpoint that needs the other has a smaller id.
    for id_, parent_id, run_id, versions in (("9", None, "gone", {"log": "1"}), ("8", "9", "kept", {"log": "2"})):
        checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_versions": versions}
        metadata: Any = {"run_id": run_id, "counters_since_delta_snapshot": {"log": (1, 1)}}
        stored = saver.put(config_of("thread", checkpoint_id=parent_id), checkpoint, metadata, versions)
        saver.put_writes(stored, [("log", id_)], "task")
    saver.delete_for_runs(["gone"])
    with SQLiteSaver(path) as reader:
        assert [thread.metadata["run_id"] for thread in reader.threads()] == ["kept"]
        history = reader.get_delta_channel_history(config=stored, channels=["log"])
    assert history == {"log": {"writes": [("task", "log", "9")]}}


def test_a_run_is_deleted_in_a_copy_as_well(saver: SQLiteSaver, path: Path) -> None:
    put(saver, {"a": 1}, put(saver, {"a": 1}, run_id="kept"), run_id="gone")
    saver.copy_thread("thread", "copy")
    saver.delete_for_runs(["gone"])
    with SQLiteSaver(path) as reader:
        for thread in ("thread", "copy"):
            assert [found.metadata["run_id"] for found in reader.history(config_of(thread))] == ["kept"]


def test_a_copy_of_one_thread_is_not_made_one_of_another(saver: SQLiteSaver, path: Path) -> None:
    for name in ("one", "another"):
        put(saver, {"of": name}, config_of(name))
    saver.copy_thread("one", "copy")
    with pytest.raises(ConflictError, match="has checkpoints that thread 'another' does not have"):
        saver.copy_thread("another", "copy")
    with SQLiteSaver(path) as reader:
        assert [found.checkpoint["channel_values"] for found in reader.list(config_of("copy"))] == [{"of": "one"}]


def test_a_target_with_a_checkpoint_in_another_namespace_than_its_source_is_left_alone(saver: SQLiteSaver) -> None:
    checkpoint: Any = {**empty_checkpoint(), "id": "1"}
    saver.put(config_of("thread", checkpoint_ns=""), checkpoint, {}, {})
    saver.put(config_of("copy", checkpoint_ns="sub"), checkpoint, {}, {})
    with pytest.raises(ConflictError, match="has checkpoints that thread 'thread' does not have"):
        saver.copy_thread("thread", "copy")
    assert [found.checkpoint_ns for found in saver.history(config_of("copy"))] == ["sub"]


def test_a_copy_to_a_thread_of_which_only_writes_have_arrived_is_listed(saver: SQLiteSaver, path: Path) -> None:
    put(saver, {"a": 1})
    saver.put_writes(config_of("copy", checkpoint_id="9"), [("a", 2)], "task")
    saver.copy_thread("thread", "copy")
    with SQLiteSaver(path) as reader:
        of_copy, of_source = (next(reader.threads(thread_id=name)) for name in ("copy", "thread"))
    assert of_copy.created_at == of_source.created_at
    assert of_copy.updated_at > of_source.updated_at
    put(saver, {"a": 3}, config_of("thread"))
    saver.copy_thread("thread", "copy")
    with SQLiteSaver(path) as reader:
        assert len({thread.updated_at for thread in reader.threads()}) == 1


@pytest.mark.parametrize(("began_at", "left"), [(2, ["call", ""]), (1, [""])], ids=["the latest", "a retired one"])
def test_a_call_goes_with_the_checkpoint_at_which_it_began_even_if_that_is_needed_out_of_sight(
    began_at: int, left: list[str], saver: SQLiteSaver, path: Path
) -> None:
    put_chain(saver, ["kept", "gone", "kept"])
    ids = [found.checkpoint_id for found in saver.history(CONFIG)][::-1]
    call = config_of("thread", checkpoint_ns="call:00000000-0000-0000-0000-000000000001")
    saver.put(call, empty_checkpoint(), {"parents": {"": ids[began_at]}}, {})
    saver.delete_for_runs(["gone"])
    saver.prune(["thread"])
    with SQLiteSaver(path) as reader:
        assert [found.checkpoint_ns.partition(":")[0] for found in reader.history(config_of("thread"))] == left
        history = reader.get_delta_channel_history(config=CONFIG, channels=["log"])
    assert [value for _, _, value in history["log"]["writes"]] == [0, 1]
