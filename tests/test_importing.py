"""A thread of any LangGraph saver that is imported is as its saver shows it, and its graph goes on with it."""

from __future__ import annotations

import asyncio
import math
import operator
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import psycopg
import pytest
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from checkpoint_base import (
    CheckpointSaver,
    ConflictError,
    ExactSerializer,
    InvalidKey,
    SerializationError,
    SQLiteSaver,
    StoreUnavailable,
    UnsupportedOperation,
    aimport_thread,
    import_thread,
    open_saver,
)
from checkpoint_base.importing import thread_ids
from checkpoint_base.transport import Retrying
from conformance_tests import graphs
from tests import shapes
from tests.faults.backends import Servers
from tests.test_transfer import SITUATIONS, THREAD, Backend, Stopping, backend, one_question, servers

__all__ = ["backend", "servers"]  # fixtures


def seen(graph: Any) -> list[tuple[Any, ...]]:
    """What a graph tells of every checkpoint of the thread."""
    history = [graph.get_state(THREAD, subgraphs=True), *graph.get_state_history(THREAD)]
    return [(each.values, each.next, each.config, each.metadata, each.interrupts) for each in history]


def shown(saver: Any) -> list[CheckpointTuple]:
    return list(saver.list(THREAD))


@pytest.fixture
def waiting() -> InMemorySaver:
    """A saver with a thread that waits in its second turn."""
    saver = InMemorySaver()
    graph = one_question(saver)  # type: ignore[arg-type]
    graph.invoke({"log": []}, THREAD)
    graph.invoke(Command(resume="yes"), THREAD)
    graph.invoke({"log": []}, THREAD)
    return saver


def test_a_thread_is_the_same_in_each_backend(waiting: InMemorySaver, backend: Backend) -> None:
    with open_saver(backend.url) as there:
        assert import_thread(waiting, there, "t") == len(shown(waiting))
        assert shown(there) == shown(waiting)
        graphs_of = (one_question(there), one_question(waiting))  # type: ignore[arg-type]
        here, other = (graph.invoke(Command(resume="no"), THREAD) for graph in graphs_of)
        assert here == other


def test_async_methods_import_the_same(waiting: InMemorySaver, target: SQLiteSaver) -> None:
    assert asyncio.run(aimport_thread(waiting, target, "t")) == len(shown(waiting))
    assert shown(target) == shown(waiting)


def test_a_delta_channel_that_depends_on_the_order_of_parallel_tasks_is_imported(target: SQLiteSaver) -> None:
    old = InMemorySaver()
    graph = graphs.delta_graph(old, graphs.LONG)
    for number in range(8):  # the ids of tasks, by which they must not be ordered, differ each time
        graph.invoke(graphs.both(f"input {number}"), THREAD)
    import_thread(old, target, "t")
    there = graphs.delta_graph(target, graphs.LONG)
    for state in there.get_state_history(THREAD):
        assert state.values["delta"] == state.values["plain"]
    assert seen(there) == seen(graph)


def test_the_writes_of_a_dozen_parallel_tasks_keep_their_order(target: SQLiteSaver) -> None:
    old = InMemorySaver()
    stored = old.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    for number in range(12):
        old.put_writes(stored, [("a", number)], f"task {number:02}")
    import_thread(old, target, "t")
    [found] = shown(target)
    assert found.pending_writes == shown(old)[0].pending_writes
    assert [value for _, _, value in found.pending_writes or ()] == [*range(12)]


@pytest.mark.parametrize("build", SITUATIONS.values(), ids=SITUATIONS)
def test_a_graph_that_waits_is_imported_and_goes_on(
    build: Callable[[CheckpointSaver, Counter[str]], Any], target: SQLiteSaver
) -> None:
    old: Any = InMemorySaver()
    here = build(old, Counter())
    here.invoke({"log": []}, THREAD)
    import_thread(old, target, "t")
    runs: Counter[str] = Counter()
    there = build(target, runs)
    assert seen(there) == seen(here)
    questions = [each.id for each in there.get_state(THREAD).interrupts]
    assert questions
    if build is not graphs.tasks_in_a_node:  # whose callers the old saver does not tell
        assert {each.interrupt_id for each in target.interrupts()} == set(questions)
    while questions:  # one after another, so that some tasks wait beside others that have gone on
        for graph in (here, there):
            graph.invoke(Command(resume={questions[0]: "yes"}), THREAD)
        assert there.get_state(THREAD).values == here.get_state(THREAD).values
        questions = [each.id for each in there.get_state(THREAD).interrupts]
    assert list(target.interrupts()) == []
    assert set(runs.values()) == {1}  # what had finished in the old store did not run again


def langgraph_sqlite(folder: Path, _: Servers) -> AbstractContextManager[Any]:
    return SqliteSaver.from_conn_string(str(folder / "old.db"))


@contextmanager
def langgraph_postgres(_: Path, servers: Servers) -> Iterator[Any]:
    with servers.backend("postgres"):
        server = servers.started["postgres"]
    schema = f"old_{uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as database:
        database.execute(f"CREATE SCHEMA {schema}")
        mark = "&" if "?" in server.url else "?"
        with PostgresSaver.from_conn_string(f"{server.url}{mark}options=-csearch_path%3D{schema}") as saver:
            saver.setup()
            yield saver
        database.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.mark.parametrize("opened", [langgraph_sqlite, langgraph_postgres])
@pytest.mark.parametrize("build", [graphs.parallel_questions, graphs.questions_of_fanned_out_subgraphs])
def test_a_thread_of_langgraph_s_own_savers_goes_on(
    opened: Callable[[Path, Servers], AbstractContextManager[Any]],
    build: Callable[[CheckpointSaver, Counter[str]], Any],
    target: SQLiteSaver,
    tmp_path: Path,
    servers: Servers,
) -> None:
    with opened(tmp_path, servers) as old:
        here = build(old, Counter())
        here.invoke({"log": ["x" * 5000]}, THREAD)
        first, *others = [each.id for each in here.get_state(THREAD).interrupts]
        here.invoke(Command(resume={first: "yes"}), THREAD)
        assert list(thread_ids(old)) == ["t"]
        assert import_thread(old, target, "t") > 1
        there = build(target, Counter())
        assert seen(there) == seen(here)
        assert {each.interrupt_id for each in target.interrupts()} == set(others)
        for graph in (here, there):
            graph.invoke(Command(resume=dict.fromkeys(others, "no")), THREAD)
        assert there.get_state(THREAD).values == here.get_state(THREAD).values


def test_a_saver_with_async_methods_only_is_imported_by_them(target: SQLiteSaver, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "old.db")) as old:
            graph = one_question(old)  # type: ignore[arg-type]
            await graph.ainvoke({"log": []}, THREAD)
            assert await aimport_thread(old, target, "t") > 1
            assert [found async for found in target.alist(THREAD)] == [found async for found in old.alist(THREAD)]
            graphs_of = (one_question(target), graph)
            here, there = [await each.ainvoke(Command(resume="no"), THREAD) for each in graphs_of]
            assert here == there

    asyncio.run(run())


def test_threads_and_questions_have_the_times_of_their_checkpoints(waiting: InMemorySaver, target: SQLiteSaver) -> None:
    times = [datetime.fromisoformat(found.checkpoint["ts"]) for found in shown(waiting)]
    import_thread(waiting, target, "t")
    (thread,) = target.threads()
    assert (thread.created_at, thread.updated_at) == (min(times), max(times))
    (question,) = target.interrupts()
    assert question.created_at == max(times)


@pytest.mark.parametrize("ts", [None, "yesterday", "2024-05-01T12:00:00", "1960-01-01T00:00:00+00:00"])
def test_a_time_that_is_none_or_strange_is_no_obstacle(ts: Any, target: SQLiteSaver) -> None:
    old = InMemorySaver()
    old.put(
        {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, {**empty_checkpoint(), "ts": ts}, {"step": 1}, {}
    )
    import_thread(old, target, "t")
    assert shown(target) == shown(old)
    (thread,) = target.threads()
    expected = {
        "2024-05-01T12:00:00": datetime(2024, 5, 1, 12, tzinfo=UTC),
        "1960-01-01T00:00:00+00:00": datetime.fromtimestamp(0, UTC),
    }
    if ts in expected:
        assert thread.created_at == expected[ts]
    else:
        assert abs((datetime.now(UTC) - thread.created_at).total_seconds()) < 3600


def test_repeating_writes_nothing_that_is_there(waiting: InMemorySaver, target: SQLiteSaver) -> None:
    import_thread(waiting, target, "t")
    target.transport = Stopping(target.transport, only_reads=True)
    assert import_thread(waiting, target, "t") == 0


def test_a_thread_that_has_gone_on_is_completed(waiting: InMemorySaver, target: SQLiteSaver) -> None:
    """Its latest checkpoint gets further writes, of the task that had waited, before another checkpoint follows."""
    import_thread(waiting, target, "t")
    before = len(shown(waiting))
    one_question(waiting).invoke(Command(resume="no"), THREAD)  # type: ignore[arg-type]
    assert import_thread(waiting, target, "t") == len(shown(waiting)) - before + 1 > 1
    assert shown(target) == shown(waiting)
    assert list(target.interrupts()) == []


class Pickling:
    """A serializer that keeps exceptions."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return "pickle", pickle.dumps(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return pickle.loads(data[1])


def test_an_error_of_a_task_is_imported_as_text(target: SQLiteSaver) -> None:
    old = InMemorySaver(serde=Pickling())
    config = old.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    for reason in ("no", "still no"):
        old.put_writes(config, [("__error__", ValueError(reason))], "task")
        assert import_thread(old, target, "t") == 1
        assert import_thread(old, target, "t") == 0
        assert shown(target)[0].pending_writes == [("task", "__error__", f"ValueError('{reason}')")]


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_task_that_has_asked_again_asks_the_last_question(is_strict: bool, is_encrypted: bool) -> None:
    """Its question and the answers that it got are replaced at the same checkpoint."""
    old: Any = InMemorySaver()
    graph = graphs.several_questions(old, Counter())
    serde: Any = ExactSerializer(strict=is_strict)
    if is_encrypted:
        serde = EncryptedSerializer.from_pycryptodome_aes(serde, key=b"0123456789abcdef")
    with SQLiteSaver(":memory:", serde=serde) as there:
        graph.invoke({"log": []}, THREAD)
        for answer in (shapes.Point(1), shapes.Point(2), None):
            import_thread(old, there, "t")
            (asked,) = graph.get_state(THREAD).interrupts
            assert [each.value for each in there.interrupts()] == [asked.value]
            assert import_thread(old, there, "t") == 0
            if answer:
                graph.invoke(Command(resume=answer), THREAD)
        assert shown(there) == shown(old) or is_strict


def test_writes_that_are_there_are_known_beside_later_ones_to_channels_of_langgraph(target: SQLiteSaver) -> None:
    old = InMemorySaver()
    config = old.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    old.put_writes(config, [("a", 1), ("b", 2)], "task")
    import_thread(old, target, "t")
    old.put_writes(config, [("__resume__", ["yes"])], "task")  # listed before the others
    import_thread(old, target, "t")
    (found,) = shown(target)
    assert found.pending_writes == shown(old)[0].pending_writes
    assert len(found.pending_writes or ()) == 3


def test_it_can_be_stopped_anywhere_and_repeated(waiting: InMemorySaver, tmp_path: Path) -> None:
    transport: Retrying
    for after in range(100):
        with SQLiteSaver(tmp_path / f"{after}.db") as there:
            transport, there.transport = there.transport, Stopping(there.transport, after=after)  # type: ignore[assignment]
            stopped = False
            try:
                import_thread(waiting, there, "t")
            except StoreUnavailable:
                stopped = True
            there.transport = transport
            import_thread(waiting, there, "t")
            assert shown(there) == shown(waiting)
            if not stopped:
                break
    assert not stopped
    assert after > len(shown(waiting))


def test_what_was_imported_until_the_source_became_unavailable_stays_there(target: SQLiteSaver) -> None:
    class Ending(InMemorySaver):
        left = 100

        def get_tuple(self, config: Any) -> CheckpointTuple | None:
            self.left -= 1
            if self.left < 0:
                raise StoreUnavailable("not now")
            return super().get_tuple(config)

    old = Ending()
    one_question(old).invoke({"log": []}, THREAD)  # type: ignore[arg-type]
    old.left = 2
    with pytest.raises(StoreUnavailable):
        import_thread(old, target, "t")
    assert shown(target) == shown(old)[-2:]


class Plain:
    """Has no exact stored form."""


def test_a_thread_with_a_value_that_cannot_be_stored_is_not_there_in_part(target: SQLiteSaver) -> None:
    old = InMemorySaver(serde=JsonPlusSerializer(pickle_fallback=True))
    graph = one_question(old)  # type: ignore[arg-type]
    graph.invoke({"log": []}, THREAD)
    graph.invoke({"log": [Plain()]}, THREAD)
    with pytest.raises(SerializationError, match=r"of thread 't' cannot be stored: .*\.Plain has"):
        import_thread(old, target, "t")
    assert list(target.threads()) == []
    one_question(target).invoke({"log": []}, THREAD | {"configurable": {"thread_id": "other"}})


def test_a_thread_that_the_target_had_in_part_is_not_removed_when_the_rest_is_refused(target: SQLiteSaver) -> None:
    old = InMemorySaver(serde=JsonPlusSerializer(pickle_fallback=True))
    graph = one_question(old)  # type: ignore[arg-type]
    graph.invoke({"log": []}, THREAD)
    import_thread(old, target, "t")
    there = shown(target)
    graph.invoke({"log": [Plain()]}, THREAD)
    with pytest.raises(SerializationError):
        import_thread(old, target, "t")
    assert {found.config["configurable"]["checkpoint_id"] for found in shown(target)} >= {
        found.config["configurable"]["checkpoint_id"] for found in there
    }


def test_a_thread_that_has_gone_on_in_the_target_is_left_alone(waiting: InMemorySaver, target: SQLiteSaver) -> None:
    import_thread(waiting, target, "t")
    one_question(target).invoke(Command(resume="no"), THREAD)
    there = shown(target)
    with pytest.raises(ConflictError, match="has checkpoints in the target that it does not have in the source"):
        import_thread(waiting, target, "t")
    assert shown(target) == there


def test_a_question_that_was_answered_in_the_target_is_not_asked_again(target: SQLiteSaver) -> None:
    """The checkpoints are still the same, because the task goes on with its next question."""
    old: Any = InMemorySaver()
    graphs.several_questions(old, Counter()).invoke({"log": []}, THREAD)
    import_thread(old, target, "t")
    graphs.several_questions(target, Counter()).invoke(Command(resume="yes"), THREAD)
    there = shown(target)
    with pytest.raises(ConflictError, match=r"has writes of task .* in the target that it does not have in the source"):
        import_thread(old, target, "t")
    assert shown(target) == there


def test_a_checkpoint_that_is_removed_meanwhile_is_a_conflict(target: SQLiteSaver) -> None:
    class Forgetful(InMemorySaver):
        def get_tuple(self, config: Any) -> CheckpointTuple | None:
            return None

    old = Forgetful()
    old.put({"configurable": {"thread_id": "t", "checkpoint_ns": ""}}, empty_checkpoint(), {}, {})
    with pytest.raises(ConflictError, match="was removed from the source meanwhile: repeat this"):
        import_thread(old, target, "t")


class Numbering(SqliteSaver):
    """Numbers versions as LangGraph's base class does, alike on every branch; MongoDB's and DynamoDB's savers do so."""

    def get_next_version(self, current: Any, channel: None) -> Any:
        return 1 if current is None else current + 1


@pytest.fixture
def numbering() -> Iterator[Any]:
    with Numbering.from_conn_string(":memory:") as saver:
        yield Numbering(saver.conn)


@pytest.mark.parametrize("build", SITUATIONS.values(), ids=SITUATIONS)
def test_a_graph_goes_on_from_versions_that_are_numbers(
    build: Callable[[CheckpointSaver, Counter[str]], Any], numbering: Any, target: SQLiteSaver
) -> None:
    """It compares them with the texts that follow here."""
    here = build(numbering, Counter())
    here.invoke({"log": []}, THREAD)
    import_thread(numbering, target, "t")
    assert import_thread(numbering, target, "t") == 0
    runs: Counter[str] = Counter()
    there = build(target, runs)
    assert seen(there) == seen(here)
    while questions := [each.id for each in there.get_state(THREAD).interrupts]:
        for graph in (here, there):
            graph.invoke(Command(resume=dict.fromkeys(questions, "yes")), THREAD)
        assert there.get_state(THREAD).values == here.get_state(THREAD).values
    assert set(runs.values()) == {1}


def test_what_a_node_has_seen_compares_as_before(numbering: Any, target: SQLiteSaver) -> None:
    """A node runs again if a channel has a later version than it has seen."""
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    versions = {"a": 2, "b": 3, "empty": 3}
    nodes = {"seen all": versions, "seen some": {"a": 1, "b": 3}, "seen none": {}}
    for id_, value in (("1", "x"), ("2", "y")):  # the second is stored under versions of its own
        values = {"a": value, "b": value}
        checkpoint: Any = {"id": id_, "channel_values": values, "channel_versions": versions, "versions_seen": nodes}
        numbering.put(config, empty_checkpoint() | checkpoint, {}, versions)
    import_thread(numbering, target, "t")

    def to_run(found: CheckpointTuple, null: Any) -> list[tuple[str, str]]:
        current, seen = found.checkpoint["channel_versions"], found.checkpoint["versions_seen"]
        return [(node, name) for node in seen for name in current if current[name] > seen[node].get(name, null)]

    expected = [("seen some", "a"), ("seen some", "empty"), *(("seen none", name) for name in versions)]
    for found, original in zip(shown(target), shown(numbering), strict=True):
        assert sorted(to_run(found, "")) == sorted(to_run(original, 0)) == sorted(expected)


def test_branches_that_number_their_versions_alike_keep_their_values(numbering: Any, target: SQLiteSaver) -> None:
    graph = one_question(numbering)
    graph.invoke({"log": ["a"]}, THREAD)
    asked = graph.get_state(THREAD).config
    graph.invoke(Command(resume="yes"), asked)
    import_thread(numbering, target, "t")
    graph.update_state(asked, {"log": ["b"]})
    import_thread(numbering, target, "t")
    there = one_question(target)
    assert seen(there) == seen(graph)
    assert there.invoke(Command(resume="no"), THREAD) == graph.invoke(Command(resume="no"), THREAD)


def test_a_version_that_is_empty_on_one_branch_is_empty_there_only(numbering: Any, target: SQLiteSaver) -> None:
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    for id_, values in (("1", {"a": "full"}), ("2", {}), ("3", {"a": None}), ("4", {"a": "full"})):
        checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_values": values, "channel_versions": {"a": 1}}
        numbering.put(config, checkpoint, {}, {"a": 1})
    import_thread(numbering, target, "t")
    values = [[found.checkpoint["channel_values"] for found in shown(saver)] for saver in (numbering, target)]
    assert values[0] == values[1]


def test_a_value_that_a_node_changed_in_place_is_imported_as_it_was_kept(target: SQLiteSaver) -> None:
    """A saver that keeps every checkpoint whole keeps the change, too, under the version that was there before."""

    def changes(state: Any) -> Any:
        state["kept"].append("changed")
        return {"log": ["changed"]}

    class State(TypedDict, total=False):
        log: Annotated[list[Any], operator.add]
        kept: list[Any]

    def build(saver: Any) -> Any:
        nodes = {"changes": changes, "ask": graphs.asks(Counter(), "ask", "go on?")}
        return graphs.sequence(State, nodes).compile(checkpointer=saver)

    with SqliteSaver.from_conn_string(":memory:") as old:
        here, there = build(old), build(target)
        here.invoke({"log": [], "kept": []}, THREAD)
        import_thread(old, target, "t")
        assert there.get_state(THREAD).values == {"log": ["changed"], "kept": ["changed"]}
        assert seen(there) == seen(here)
        assert there.invoke(Command(resume="no"), THREAD) == here.invoke(Command(resume="no"), THREAD)


def test_a_version_keeps_the_value_that_it_has_in_the_target(target: SQLiteSaver) -> None:
    with SqliteSaver.from_conn_string(":memory:") as old:
        config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
        versions: Any = {"a": old.get_next_version(None, None)}
        for id_, value in (("2", "x"), ("1", "y")):  # the clock of the second was behind
            checkpoint: Any = {"id": id_, "channel_values": {"a": value}, "channel_versions": versions}
            old.put(config, empty_checkpoint() | checkpoint, {}, versions)
            assert import_thread(old, target, "t") == 1
        assert [found.checkpoint["channel_values"] for found in shown(target)] == [{"a": "x"}, {"a": "y"}]


@pytest.mark.parametrize("version", ["first", math.inf], ids=repr)
def test_versions_that_nothing_can_follow_are_refused(version: Any, target: SQLiteSaver) -> None:
    old = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    old.put(config, {**empty_checkpoint(), "channel_versions": {"a": version}}, {}, {"a": version})
    with pytest.raises(UnsupportedOperation, match=f"no version can follow {version!r}"):
        import_thread(old, target, "t")
    assert list(target.threads()) == []


def test_parents_come_first_even_if_their_clock_was_ahead(target: SQLiteSaver) -> None:
    """A delta channel is rebuilt from ancestors, so the target must have these."""
    old = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    version = old.get_next_version(None, None)
    metadata: Any = {"counters_since_delta_snapshot": {"delta": (1, 1)}}
    for id_ in ("2", "1", "3"):
        checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_versions": {"delta": version}}
        config = old.put(config, checkpoint, metadata, {"delta": version})
        old.put_writes(config, [("delta", id_)], f"task {id_}")
        if id_ == "2":  # from here on there is something to be rebuilt
            metadata = {**metadata, "step": 1}
    assert import_thread(old, target, "t") == 3
    histories = [saver.get_delta_channel_history(config=config, channels=["delta"]) for saver in (old, target)]
    assert histories[0] == histories[1]
    assert [value for _, _, value in histories[1]["delta"]["writes"]] == ["2", "1"]


def test_what_cannot_be_rebuilt_from_what_is_shown_is_refused(source: SQLiteSaver, target: SQLiteSaver) -> None:
    graph = graphs.delta_graph(source, graphs.LONG)
    for number in range(3):
        graph.invoke(graphs.both(f"input {number}"), THREAD)
    source.prune(["t"])
    with pytest.raises(UnsupportedOperation, match=r"'delta' of .* would be rebuilt from .* use transfer instead"):
        import_thread(source, target, "t")
    assert list(target.threads()) == []


def test_an_existing_thread_can_be_encrypted(source: SQLiteSaver, tmp_path: Path) -> None:
    secret = "secret " * 500
    one_question(source).invoke({"log": [secret]}, THREAD)
    serde = EncryptedSerializer.from_pycryptodome_aes(ExactSerializer(), key=b"0123456789abcdef")
    with SQLiteSaver(tmp_path / "encrypted.db", serde=serde) as there:
        import_thread(source, there, "t")
        assert shown(there) == shown(source)
        (thread,) = there.threads()
        (original,) = source.threads()
        assert thread.pending_interrupts == original.pending_interrupts == 1
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("encrypted.db*"))
    assert b"secret secret" not in stored
    assert b"secret secret" in b"".join(path.read_bytes() for path in tmp_path.glob("source.db*"))


def test_a_thread_of_another_saver_can_be_encrypted(tmp_path: Path) -> None:
    """A value that several checkpoints share is the same one, although its bytes differ each time."""
    old: Any = InMemorySaver()
    graph = graphs.delta_graph(old, 2)
    for number in range(3):
        graph.invoke(graphs.both(f"input {number}"), THREAD)
    serde = EncryptedSerializer.from_pycryptodome_aes(ExactSerializer(), key=b"0123456789abcdef")
    with SQLiteSaver(":memory:", serde=serde) as there:
        import_thread(old, there, "t")
        assert shown(there) == shown(old)


def test_a_missing_thread_and_odd_arguments_change_nothing(target: SQLiteSaver) -> None:
    old = InMemorySaver()
    assert import_thread(old, target, "t") == 0
    with pytest.raises(UnsupportedOperation, match="the same saver"):
        import_thread(target, target, "t")
    with pytest.raises(InvalidKey):
        import_thread(old, target, "")
    assert list(target.threads()) == []


def test_an_error_of_the_source_is_raised_as_it_is(waiting: InMemorySaver, target: SQLiteSaver) -> None:
    class Failing(InMemorySaver):
        def get_tuple(self, config: Any) -> CheckpointTuple | None:
            if config["configurable"]["checkpoint_id"] == shown(waiting)[0].checkpoint["id"]:
                raise ZeroDivisionError
            return waiting.get_tuple(config)

        def list(self, config: Any, **how: Any) -> Iterator[CheckpointTuple]:
            return waiting.list(config, **how)

    with suppress(ZeroDivisionError):
        import_thread(Failing(), target, "t")
        pytest.fail("nothing was raised")
    assert list(target.threads()) == []
