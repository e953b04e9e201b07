"""A thread that moves to another store is the same there, for every reader, and for the graph that goes on with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Command

from checkpoint_base import (
    CheckpointSaver,
    ConflictError,
    CorruptCheckpoint,
    InvalidKey,
    SQLiteSaver,
    StoreUnavailable,
    UnsupportedOperation,
    atransfer,
    open_saver,
    paging,
    transfer,
    transfers,
    two_stores,
)
from checkpoint_base.paging import PAGE_BYTES
from checkpoint_base.transport import Retrying, Transport, run
from conformance_tests import graphs
from tests.conftest import CountingTransport, counted
from tests.faults.backends import BACKENDS, Backend, Servers
from tests.test_removing import put_chain
from tests.test_size import chat_file

THREAD: Any = {"configurable": {"thread_id": "t"}}
CHANNELS = ("delta",)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as started:
        yield started


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Backend]:
    """An empty store of each backend."""
    with servers.backend(request.param) as opened:
        yield opened


def read(saver: CheckpointSaver) -> dict[str, Any]:
    """All that a saver tells of the thread."""
    listed = list(saver.list(THREAD))
    return {
        "checkpoints": listed,
        "one by one": [saver.get_tuple(each.config) for each in listed],
        "history": list(saver.history(THREAD)),
        "interrupts": list(saver.interrupts(thread_id="t")),
        "threads": list(saver.threads(thread_id="t")),
        "delta": [saver.get_delta_channel_history(config=each.config, channels=CHANNELS) for each in listed],
    }


def assert_same(source: CheckpointSaver, target: CheckpointSaver) -> None:
    """Except for when the thread last changed: that may have been a write that is pruned by now."""
    expected, found = read(source), read(target)
    for there, here in zip(found["threads"], expected["threads"], strict=True):
        assert there.updated_at <= here.updated_at
    for answers in (expected, found):
        answers["threads"] = [replace(info, updated_at=info.created_at, cursor="") for info in answers["threads"]]
    for what, answer in expected.items():
        assert found[what] == answer, what


def one_question(saver: CheckpointSaver) -> Any:
    return graphs.one_question(saver, Counter())


SITUATIONS: dict[str, Callable[[CheckpointSaver, Counter[str]], Any]] = {
    build.__name__: build
    for build in (
        graphs.one_question,
        graphs.parallel_questions,
        graphs.question_in_a_subgraph,
        graphs.questions_of_fanned_out_subgraphs,
        graphs.questions_in_a_subgraph_that_remembers,
        graphs.tasks_in_a_node,
    )
}


@pytest.mark.parametrize("build", SITUATIONS.values(), ids=SITUATIONS)
def test_a_graph_that_waits_goes_on_in_the_other_store(
    build: Callable[[CheckpointSaver, Counter[str]], Any], source: SQLiteSaver, target: SQLiteSaver
) -> None:
    build(source, Counter()).invoke({"log": []}, THREAD)
    before = read(source)
    assert before["interrupts"]
    assert transfer(source, target, "t") == len(before["checkpoints"])
    assert read(source) == read(target) == before
    answers = {each.interrupt_id: "yes" for each in target.interrupts()}
    there, here = (build(saver, Counter()).invoke(Command(resume=answers), THREAD) for saver in (target, source))
    assert there == here


def test_forks_with_their_branches_and_parents_are_copied(source: SQLiteSaver, target: SQLiteSaver) -> None:
    graph = one_question(source)
    graph.invoke({"log": []}, THREAD)
    graph.invoke(Command(resume="yes"), THREAD)
    first = list(graph.get_state_history(THREAD))[2]
    fork = graph.update_state(first.config, {"log": ["changed"]})
    graph.invoke(None, fork)
    transfer(source, target, "t")
    assert read(source) == read(target)


@pytest.mark.parametrize("snapshot_frequency", [3, graphs.LONG])
@pytest.mark.parametrize("tidy", ["not at all", "keep_latest", "keep_latest twice", "runs"])
def test_delta_channels_are_rebuilt_from_what_was_pruned(
    snapshot_frequency: int, tidy: str, source: SQLiteSaver, target: SQLiteSaver
) -> None:
    graph = graphs.delta_graph(source, snapshot_frequency, "go on?")
    for number in range(4):
        graph.invoke(graphs.both(f"input {number}"), THREAD | {"metadata": {"run_id": f"run {number}"}})
        graph.invoke(Command(resume=f"answer {number}"), THREAD | {"metadata": {"run_id": f"run {number}"}})
        if tidy == "keep_latest twice" and number in (1, 3):
            source.prune(["t"])
    if tidy == "keep_latest":
        source.prune(["t"])
    if tidy == "runs":
        source.delete_for_runs(["run 0", "run 2"])
    state = graph.get_state(THREAD)
    assert transfer(source, target, "t") == len(list(source.list(THREAD)))
    found = graphs.delta_graph(target, snapshot_frequency, "go on?").get_state(THREAD)
    assert (found.values, found.next, found.config) == (state.values, state.next, state.config)
    assert state.values["delta"] == state.values["plain"]
    assert_same(source, target)
    assert transfer(source, target, "t") == 0
    # What was only there for others goes when they go, as it does in the source.
    for saver in (source, target):
        saver.prune(["t"], strategy="delete")
        assert list(saver.threads()) == []


@pytest.mark.parametrize("at", ["now", "in 1970"])
def test_a_checkpoint_that_a_clock_put_behind_its_parent_is_copied_with_what_it_is_rebuilt_from(
    at: str, source: SQLiteSaver, tmp_path: Path, backend: Backend
) -> None:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    for id_, values, opened in (("2", {"delta": ["x"]}, ()), ("1", {}, CHANNELS)):
        checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_values": values}
        checkpoint["channel_versions"] = {"delta": f"{len(opened) + 1}.1"}
        metadata: Any = {"counters_since_delta_snapshot": dict.fromkeys(opened, (1, 1))}
        config = source.put(config, checkpoint, metadata, checkpoint["channel_versions"])
        source.put_writes(config, [("delta", [f"of {id_}"])], "task")
    if at == "in 1970":
        with closing(sqlite3.connect(tmp_path / "source.db")) as db, db:
            assert db.execute("UPDATE checkpoints SET written_at = 0").rowcount == 2
            assert db.execute("UPDATE threads SET created_at = 0").rowcount == 1
    expected = {"delta": {"seed": ["x"], "writes": [("task", "delta", ["of 2"])]}}
    with open_saver(backend.url) as target:
        assert transfer(source, target, "t") == 2
    with open_saver(backend.url) as target:
        for saver in (source, target):
            assert saver.get_delta_channel_history(config=config, channels=CHANNELS) == expected
        assert list(target.list(THREAD)) == list(source.list(THREAD))
        assert transfer(source, target, "t") == 0


def test_the_copy_keeps_the_time_at_which_a_pruned_thread_began(source: SQLiteSaver, target: SQLiteSaver) -> None:
    graph = one_question(source)
    graph.invoke({"log": []}, THREAD)
    (before,) = source.threads()
    source.prune(["t"])
    transfer(source, target, "t")
    (copied,) = target.threads()
    assert (copied.created_at, copied.updated_at) == (before.created_at, before.updated_at)
    assert copied.created_at < next(target.history(THREAD)).created_at


def test_several_removed_ancestors_and_the_value_that_they_began_with_are_copied(
    source: SQLiteSaver, target: SQLiteSaver
) -> None:
    put_chain(source, ["run"] * 5)
    source.prune(["thread"])
    transfer(source, target, "thread")
    config: Any = {"configurable": {"thread_id": "thread"}}
    histories = [saver.get_delta_channel_history(config=config, channels=["log"]) for saver in (source, target)]
    assert histories == [{"log": {"seed": [], "writes": [("task", "log", number) for number in range(4)]}}] * 2
    assert [found.metadata["step"] for found in target.history(None)] == [4]


def test_a_source_that_has_lost_something_leaves_nothing_in_the_target_that_cannot_be_read(
    source: SQLiteSaver, target: SQLiteSaver, tmp_path: Path
) -> None:
    last = put_chain(source, ["run"] * 3)
    source.prune(["thread"])
    source.put_writes(last, [("log", "x" * 3000)], "large")
    with closing(sqlite3.connect(tmp_path / "source.db")) as db, db:
        assert db.execute("DELETE FROM chunks").rowcount > 0
    with pytest.raises(CorruptCheckpoint, match="has lost 1 of its 1 chunks"):
        transfer(source, target, "thread")
    assert [found.metadata for found in target.history(None) if found.metadata["step"] != 2] == []


# Repeating it


def test_copying_again_sends_nothing(source: SQLiteSaver, target: SQLiteSaver) -> None:
    one_question(source).invoke({"log": []}, THREAD)
    transfer(source, target, "t")
    target.transport = Retrying(Stopping(target.store.transport, only_reads=True), 0)
    assert transfer(source, target, "t") == 0


def test_copying_again_sends_what_came_since(source: SQLiteSaver, target: SQLiteSaver) -> None:
    graph = one_question(source)
    graph.invoke({"log": []}, THREAD)
    first = transfer(source, target, "t")
    graph.invoke(Command(resume="yes"), THREAD)
    total = len(list(source.list(THREAD)))
    # The one that waited has a write more.
    assert transfer(source, target, "t") == total - first + 1
    assert_same(source, target)


@pytest.mark.parametrize(
    ("column", "value"),
    {
        "header": "x'00'",
        "terms": "x'00'",
        "channels": "'[]'",
        "open_channels": "'[\"log\"]'",
        "parent_id": "'other'",
        "run_id": "'other'",
        "caller_id": "'other'",
        "retired": "1",
        "written_at": "written_at + 1",
    }.items(),
)
def test_copying_again_sends_a_checkpoint_that_has_changed_in_the_target(
    column: str, value: str, source: SQLiteSaver, target: SQLiteSaver, tmp_path: Path
) -> None:
    one_question(source).invoke({"log": []}, THREAD | {"metadata": {"run_id": "run"}})
    transfer(source, target, "t")
    with closing(sqlite3.connect(tmp_path / "target.db")) as db, db:
        newest = "(SELECT max(checkpoint) FROM checkpoints)"
        assert db.execute(f"UPDATE checkpoints SET {column} = {value} WHERE checkpoint = {newest}").rowcount == 1
    assert transfer(source, target, "t") == 1
    assert_same(source, target)
    assert transfer(source, target, "t") == 0


def test_copying_again_sends_values_that_are_damaged_in_the_target(
    source: SQLiteSaver, target: SQLiteSaver, tmp_path: Path
) -> None:
    one_question(source).invoke({"log": ["x"]}, THREAD)
    transfer(source, target, "t")
    with closing(sqlite3.connect(tmp_path / "target.db")) as db, db:
        assert db.execute("UPDATE channel_values SET root = x'00'").rowcount > 0
    with pytest.raises(CorruptCheckpoint):
        assert_same(source, target)
    assert transfer(source, target, "t") > 0
    assert_same(source, target)
    assert transfer(source, target, "t") == 0


@pytest.mark.parametrize("table", ["checkpoints", "writes"])
def test_a_damaged_time_is_reported_by_the_thread_that_has_it(
    table: str, source: SQLiteSaver, target: SQLiteSaver, tmp_path: Path
) -> None:
    one_question(source).invoke({"log": []}, THREAD)
    with closing(sqlite3.connect(tmp_path / "source.db")) as db, db:
        assert db.execute(f"UPDATE {table} SET written_at = -5").rowcount > 0
    with pytest.raises(CorruptCheckpoint, match=r"of thread 't': a stored time is damaged: -5"):
        transfer(source, target, "t")
    assert transfer(source, target, "another") == 0  # others can be copied


@pytest.mark.parametrize("pruned", [False, True])
def test_a_copy_that_was_stopped_anywhere_is_completed_by_the_next(
    pruned: bool, source: SQLiteSaver, tmp_path: Path
) -> None:
    graph = graphs.delta_graph(source, graphs.LONG, "go on?")
    for number in range(3):
        graph.invoke(graphs.both(f"input {number}"), THREAD)
        graph.invoke(Command(resume="x"), THREAD)
        if pruned:
            source.prune(["t"])
    finished = False
    requests = 0
    while not finished:
        with SQLiteSaver(tmp_path / f"{requests}.db") as target:
            working = target.transport
            target.transport = Retrying(Stopping(target.store.transport, after=requests), 0)
            try:
                transfer(source, target, "t")
                finished = True
            except StoreUnavailable:
                target.transport = working
                transfer(source, target, "t")
            target.transport = working
            assert_same(source, target)
        requests += 1
    assert requests > 5


def test_both_colours_copy_the_same(source: SQLiteSaver, target: SQLiteSaver) -> None:
    one_question(source).invoke({"log": []}, THREAD)
    assert asyncio.run(atransfer(source, target, "t")) == len(list(source.list(THREAD)))
    assert_same(source, target)
    asyncio.run(source.aclose())
    asyncio.run(target.aclose())


# Beside a service that runs


def at_any_moment(
    source: SQLiteSaver, tmp_path: Path, happens: Callable[[CheckpointSaver], Any]
) -> Iterator[tuple[SQLiteSaver, SQLiteSaver, int | None]]:
    """A copy of the source, a target, and what a transfer returned during which this happened before a request of the
    source, for each of its requests; None when that was a conflict."""
    source.close()
    reached = True
    number = 0
    while reached:
        shutil.copy(tmp_path / "source.db", tmp_path / f"source {number}.db")
        with (
            SQLiteSaver(tmp_path / f"source {number}.db") as changing,
            SQLiteSaver(tmp_path / f"source {number}.db") as other,
            SQLiteSaver(tmp_path / f"target {number}.db") as target,
        ):
            working = changing.transport
            watched = Meanwhile(changing.store.transport, number, lambda saver=other: happens(saver))
            changing.transport = Retrying(watched, 0)
            sent: int | None
            try:
                sent = transfer(changing, target, "t")
            except ConflictError:
                sent = None
            changing.transport = working
            reached = watched.reached
            yield changing, target, sent
        number += 1


def steps(saver: CheckpointSaver, count: int) -> None:
    for number in range(count):
        one_question(saver).update_state(THREAD, {"log": [number]})


def late(saver: CheckpointSaver) -> None:
    """A checkpoint of a subgraph, whose id is smaller than others', is put by a worker that was slow."""
    found = list(saver.list(THREAD))[3]
    saver.put({"configurable": {"thread_id": "t", "checkpoint_ns": "inner"}}, found.checkpoint, found.metadata, {})


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_WHOLE", 3)
    monkeypatch.setattr(two_stores, "_AT_ONCE", 5)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("happens", [lambda saver: steps(saver, 10), late], ids=["goes on", "late"])
def test_a_thread_that_goes_on_while_it_is_copied_is_copied_as_it_was(
    happens: Callable[[CheckpointSaver], Any], source: SQLiteSaver, tmp_path: Path
) -> None:
    steps(source, 7)
    before = {each.checkpoint["id"] for each in source.list(THREAD)}
    for changed, target, sent in at_any_moment(source, tmp_path, happens):
        found = list(target.list(THREAD))
        assert sent == len(found)
        assert before <= {each.checkpoint["id"] for each in found}
        assert [changed.get_tuple(each.config) for each in found] == found
        transfer(changed, target, "t")
        assert_same(changed, target)


REMOVALS: dict[str, Callable[[CheckpointSaver], Any]] = {
    "pruned": lambda saver: saver.prune(["t"]),
    "deleted": lambda saver: saver.delete_thread("t"),
    "a run deleted": lambda saver: saver.delete_for_runs(["run 1"]),
}


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("removes", REMOVALS.values(), ids=REMOVALS)
@pytest.mark.parametrize("snapshot_frequency", [3, graphs.LONG])
def test_what_is_removed_while_it_is_copied_is_a_conflict_and_what_was_copied_can_be_read(
    snapshot_frequency: int, removes: Callable[[CheckpointSaver], Any], source: SQLiteSaver, tmp_path: Path
) -> None:
    for number in range(3):
        graph = graphs.delta_graph(source, snapshot_frequency)
        graph.invoke(graphs.both(f"input {number}"), THREAD | {"metadata": {"run_id": f"run {number}"}})
        if number == 0:
            source.prune(["t"])  # so that something stands in for what was retired
    before = {each.checkpoint["id"]: each for each in source.list(THREAD)}
    states = {id_: graph.get_state(each.config).values for id_, each in before.items()}
    conflicts = 0
    for changed, target, sent in at_any_moment(source, tmp_path, removes):
        found = list(target.list(THREAD))
        assert [before[each.checkpoint["id"]] for each in found] == found
        if sent is None:
            conflicts += 1
            continue
        assert len(found) in (len(before), len(list(changed.list(THREAD))))
        assert sent == len(found)
        there = graphs.delta_graph(target, snapshot_frequency)
        assert {each.checkpoint["id"]: there.get_state(each.config).values for each in found} == {
            each.checkpoint["id"]: states[each.checkpoint["id"]] for each in found
        }
    assert conflicts > 3


def test_a_pruned_thread_that_is_deleted_while_it_is_copied_leaves_nothing_that_cannot_be_read(
    source: SQLiteSaver, tmp_path: Path
) -> None:
    steps(source, 3)
    source.prune(["t"])
    steps(source, 3)
    before = {each.checkpoint["id"]: each for each in source.list(THREAD)}
    for _, target, sent in at_any_moment(source, tmp_path, REMOVALS["deleted"]):
        found = list(target.list(THREAD))
        assert [before[each.checkpoint["id"]] for each in found] == found
        assert sent in (None, len(found))


@pytest.mark.parametrize(
    ("table", "pruned"),
    [("checkpoints", False), ("channel_values", False), ("writes", False), ("chunks", False), ("writes", True)],
)
def test_what_vanishes_from_the_target_before_it_is_read_back_is_sent_again_or_a_conflict(
    table: str, pruned: bool, source: SQLiteSaver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "_FIRST", 20)  # all are read back at the end
    graph = graphs.delta_graph(source, graphs.LONG) if pruned else one_question(source)
    for text in "xy":
        graph.invoke(graphs.both(text) if pruned else {"log": [text * 2000]}, THREAD)
    if pruned:
        source.prune(["t"])

    def vanish(path: Path) -> None:
        with sqlite3.connect(path) as db:
            db.execute(f"DELETE FROM {table}")
        db.close()

    conflicts = number = 0
    reached = True
    while reached:
        path = tmp_path / f"target {number}.db"
        with SQLiteSaver(path) as target:
            assert list(target.threads()) == []
            working = target.transport
            watched = Meanwhile(target.store.transport, number, lambda path=path: vanish(path))
            target.transport = Retrying(watched, 0)
            try:
                transfer(source, target, "t")
                is_done = True
            except ConflictError:
                is_done = False
                conflicts += 1
            reached = watched.reached
            target.transport = working
            if not is_done:
                transfer(source, target, "t")
            assert_same(source, target)
        number += 1
    assert conflicts > 0


# What it costs


def test_a_long_thread_takes_as_much_room_and_two_requests_for_a_checkpoint(tmp_path: Path) -> None:
    size = chat_file(tmp_path / "chat.db", 100)
    with SQLiteSaver(tmp_path / "chat.db") as source, SQLiteSaver(tmp_path / "copy.db") as target:
        counting = Stopping(target.store.transport)
        target.transport = Retrying(counting, 0)
        copied = transfer(source, target, "chat")
    assert copied == 150
    assert counting.requests < 2.2 * copied
    assert (tmp_path / "copy.db").stat().st_size < size * 1.1


def test_no_more_of_a_thread_of_large_checkpoints_is_held_than_two_pages_may_hold(tmp_path: Path) -> None:
    document, count = 4 * 1024 * 1024, 16
    with SQLiteSaver(tmp_path / "source.db") as source, SQLiteSaver(tmp_path / "target.db") as target:
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        for _ in range(count):
            checkpoint: Any = empty_checkpoint()
            version = source.get_next_version(None)
            checkpoint.update(channel_values={"document": os.urandom(document)}, channel_versions={"document": version})
            config = source.put(config, checkpoint, {}, {"document": version})
        for sent in (count, 0):
            tracemalloc.start()
            assert transfer(source, target, "t") == sent
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # Two pages, and the one that the database is reading.
            assert peak < 3 * PAGE_BYTES < count * document


def test_checkpoints_that_are_each_larger_than_a_page_are_copied_and_listed_one_by_one(
    source: SQLiteSaver, target: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(source, 30)
    monkeypatch.setattr(paging, "PAGE_BYTES", 1)
    assert transfer(source, target, "t") == 30
    assert_same(source, target)


def test_what_is_sent_first_and_what_is_there_already_take_few_requests(
    source: SQLiteSaver, target: SQLiteSaver
) -> None:
    steps(source, 100)
    reading, writing = counted(source), counted(target)
    assert transfer(source, target, "t") == 100
    # Setting up, the index, the time in the source, and windows of 2, 4, 8, 16, 20, 20, 20 and 10 checkpoints.
    assert reading.requests == 3 + 8
    assert writing.requests <= 2 + 2 * 100 + 8
    reading.requests = writing.requests = 0
    assert transfer(source, target, "t") == 0
    assert (reading.requests, writing.requests) == (3 + 8, 2 + 8)


def test_what_stands_in_for_what_was_pruned_is_retired_without_a_look_at_other_threads(
    source: SQLiteSaver, backend: Backend
) -> None:
    for number in range(3):
        graphs.delta_graph(source, graphs.LONG).invoke(graphs.both(f"input {number}"), THREAD)
    source.prune(["t"])
    ids = [f"t{number}" for number in range(12)]
    for thread_id in ids:
        source.copy_thread("t", thread_id)
    calls = {}
    with open_saver(backend.url) as target:
        for thread_id in ids:
            noting = NotingCalls(target.store.transport)
            target.transport = Retrying(noting, 30)
            transfer(source, target, thread_id)
            calls[thread_id] = [*noting.calls]
        for thread_id in ids:
            config: Any = {"configurable": {"thread_id": thread_id}}
            assert [*target.list(config)] == [*source.list(config)]
    if backend.name == "s3":
        # How many calls it takes depends on how long each one does. Whoever opens a store also sweeps a few threads.
        for thread_id, made in calls.items():
            said = "".join(map(str, made))
            assert f"/={thread_id}/" in said
            assert sum(f"/={other}/" in said for other in ids if other != thread_id) <= 2
    else:
        assert len({len(calls[thread_id]) for thread_id in ids[1:]}) == 1  # the first one sets the target up


def test_runs_of_a_thread_that_is_named_are_removed_there_only(backend: Backend) -> None:
    with open_saver(backend.url) as saver:
        for thread_id in ("t", "other"):
            for run_id in ("run 1", "run 2"):
                config: Any = {"configurable": {"thread_id": thread_id}, "metadata": {"run_id": run_id}}
                one_question(saver).invoke({"log": []}, config)
        before = [*saver.list({"configurable": {"thread_id": "other"}})]
        noting = NotingCalls(saver.store.transport)
        for _ in range(2):
            run(saver.store.delete_runs(["run 1"], "t"), Retrying(noting, 30))
            assert {each.metadata["run_id"] for each in saver.list(THREAD)} == {"run 2"}
            assert [*saver.list({"configurable": {"thread_id": "other"}})] == before
        assert len(noting.calls) < 64  # not one for each bucket of Redis
        run(saver.store.delete_runs(["run 2"], "nobody"), saver.transport)
        assert [*saver.list(THREAD)]
        assert [*saver.list({"configurable": {"thread_id": "other"}})] == before


# What it refuses


def test_a_thread_that_went_its_own_way_in_the_target_is_a_conflict(source: SQLiteSaver, target: SQLiteSaver) -> None:
    one_question(source).invoke({"log": []}, THREAD)
    one_question(target).invoke({"log": ["other"]}, THREAD)
    before = read(target)
    with pytest.raises(
        ConflictError, match="thread 't' has checkpoints in the target that it does not have in the source"
    ):
        transfer(source, target, "t")
    assert read(target) == before


def test_an_id_in_the_target_adds_no_line_to_the_conflict(source: SQLiteSaver, target: SQLiteSaver) -> None:
    target.put(THREAD, {**empty_checkpoint(), "id": "an id\nERROR: a line"}, {}, {})
    with pytest.raises(ConflictError, match=r"'an id\\nERROR: a line'"):
        transfer(source, target, "t")


def test_what_a_stopped_copy_has_left_is_copied_no_further(
    source: SQLiteSaver, target: SQLiteSaver, tmp_path: Path
) -> None:
    for number in range(3):
        graphs.delta_graph(source, graphs.LONG).invoke(graphs.both(f"input {number}"), THREAD)
    source.prune(["t"])
    target.transport = Retrying(Stopping(target.store.transport, after=8), 0)
    with pytest.raises(StoreUnavailable):
        transfer(source, target, "t")
    target.transport = Retrying(target.store.transport, 0)
    with SQLiteSaver(tmp_path / "third.db") as third:
        with pytest.raises(CorruptCheckpoint, match="If a transfer into the source was stopped, repeat that"):
            transfer(target, third, "t")
        assert list(third.threads()) == []
        transfer(source, target, "t")
        assert transfer(target, third, "t") == len(list(source.history(THREAD)))
        assert list(third.list(THREAD)) == list(source.list(THREAD))


def test_a_thread_that_does_not_exist_copies_nothing(source: SQLiteSaver, target: SQLiteSaver) -> None:
    assert transfer(source, target, "nobody") == 0
    assert list(target.threads()) == []


def test_a_store_is_not_copied_to_itself(source: SQLiteSaver) -> None:
    for same in (source, source.with_allowlist([])):
        with pytest.raises(UnsupportedOperation, match="the same store"):
            transfer(source, same, "t")


def test_ids_are_checked(source: SQLiteSaver, target: SQLiteSaver) -> None:
    with pytest.raises(InvalidKey):
        transfer(source, target, "")


def test_a_checkpoint_that_has_lost_a_chunk_is_named(source: SQLiteSaver, target: SQLiteSaver, tmp_path: Path) -> None:
    one_question(source).invoke({"log": ["x" * 5000]}, THREAD)
    with sqlite3.connect(tmp_path / "source.db") as db:
        db.execute("DELETE FROM chunks")
    db.close()
    with pytest.raises(CorruptCheckpoint, match="of thread 't' has lost 1 of its 1 chunks"):
        transfer(source, target, "t")


def test_encrypted_threads_are_copied_without_the_key(tmp_path: Path, target: SQLiteSaver) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    with SQLiteSaver(tmp_path / "secret.db", serde=serde) as secret:
        one_question(secret).invoke({"log": ["secret " * 500]}, THREAD)
        with SQLiteSaver(tmp_path / "secret.db") as without_key:
            transfer(without_key, target, "t")
        with SQLiteSaver(tmp_path / "target.db", serde=serde) as there:
            assert_same(secret, there)
    assert b"secret secret" not in (tmp_path / "target.db").read_bytes() + (tmp_path / "target.db-wal").read_bytes()


class Meanwhile(CountingTransport):
    """A transport beside which something else happens, once, before the request of a number."""

    def __init__(self, inner: Transport, number: int, happens: Callable[[], Any]) -> None:
        super().__init__(inner)
        self._number = number
        self._happens = happens

    @property
    def reached(self) -> bool:
        return self.requests > self._number

    def execute(self, request: Any) -> Any:
        if self.requests == self._number:
            self._happens()
        return super().execute(request)


class NotingCalls(CountingTransport):
    """Notes the calls of which requests consist, on backends that send several at once."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.calls: list[Any] = []

    def execute(self, request: Any) -> Any:
        self.calls += request if isinstance(request, Sequence) else [request]
        return super().execute(request)


class Stopping(CountingTransport):
    """A transport that is unavailable ``after`` so many requests; or refuses to write."""

    def __init__(self, inner: Transport, *, after: int = 10**9, only_reads: bool = False) -> None:
        super().__init__(inner)
        self._after = after
        self._only_reads = only_reads

    def execute(self, request: Any) -> Any:
        assert not (self._only_reads and getattr(request, "writes", False))
        if self.requests >= self._after:
            raise StoreUnavailable("stopped")
        return super().execute(request)
