"""The saver's own promises, beside the contract: ids, times, versions, clones, encryption, a lost store."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID, uuid4

import numpy as np
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, interrupt

from checkpoint_base import (
    CorruptCheckpoint,
    ExactSerializer,
    SerializationError,
    SQLiteSaver,
    StoreUnavailable,
    UnsupportedOperation,
    codec,
)
from checkpoint_base.keys import CheckpointKey, version_of
from checkpoint_base.msgpack import element_ends
from checkpoint_base.records import Chunk, Missing, ValueRecord, WriteRecord
from checkpoint_base.sqlite.transport import Transaction
from checkpoint_base.transport import run
from tests.conftest import CONFIG, config_of, counted, put


def test_a_checkpoint_that_a_clock_puts_behind_its_parent_is_warned_of(
    saver: SQLiteSaver, caplog: pytest.LogCaptureFixture
) -> None:
    parent = put(saver, {"a": 1})
    child = put(saver, {"a": 2}, parent)
    assert caplog.messages == []
    behind: Any = empty_checkpoint()
    behind["id"] = "1ef00000-0000-6000-8000-000000000000"  # of April 2024
    saver.put(child, behind, {"source": "loop", "step": 2}, {})
    (message,) = caplog.messages
    assert behind["id"] in message
    assert child["configurable"]["checkpoint_id"] in message
    assert saver.get_tuple(CONFIG).config == child  # type: ignore[union-attr]


# What docs/operating.md says of graphs


@pytest.mark.parametrize("forged", ["f\nERROR audit: approved", "f\x1b[2K", "f\u2028x", "f\u202ex"])
def test_no_id_adds_a_line_to_a_message_or_controls_a_terminal(
    saver: SQLiteSaver, forged: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(saver, {"a": 1}, config_of("thread", checkpoint_id=forged))
    writes_of = config_of("thread", checkpoint_id=forged)
    with pytest.raises(SerializationError) as refused:
        saver.put_writes(writes_of, [("a", object())], forged)
    for said in (caplog.messages[0], str(refused.value)):
        assert said.isprintable()
        assert repr(forged) in said


class State(TypedDict, total=False):
    a: int
    b: int


def asking(saver: SQLiteSaver, node: str, state: Any = State) -> Any:
    builder = StateGraph(state)
    builder.add_node(node, lambda state: {"a": interrupt("how many?")})
    builder.add_edge(START, node)
    return builder.compile(checkpointer=saver)


def test_a_thread_that_waits_in_a_renamed_node_keeps_its_question_until_the_node_is_back(saver: SQLiteSaver) -> None:
    asking(saver, "ask").invoke({"a": 1, "b": 2}, CONFIG)
    assert asking(saver, "renamed").invoke(Command(resume=5), CONFIG) == {"a": 1, "b": 2}
    assert [waiting.value for waiting in saver.interrupts()] == ["how many?"]
    assert asking(saver, "ask").invoke(Command(resume=5), CONFIG) == {"a": 5, "b": 2}
    assert list(saver.interrupts()) == []


def test_a_key_that_was_removed_from_the_state_is_not_shown_and_an_added_one_is_missing(saver: SQLiteSaver) -> None:
    class Changed(TypedDict, total=False):
        a: int
        c: int

    asking(saver, "ask").invoke({"a": 1, "b": 2}, CONFIG)
    assert asking(saver, "ask", Changed).get_state(CONFIG).values == {"a": 1}


@pytest.mark.parametrize(("durability", "ran"), [("async", 4), ("sync", 0)])
def test_a_run_that_loses_its_store_says_so_at_its_end_or_at_each_step(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch, durability: Any, ran: int
) -> None:
    def lost(*_: object) -> None:
        raise StoreUnavailable("down")

    done: list[int] = []
    builder = StateGraph(State)
    for number in range(4):
        builder.add_node(f"n{number}", lambda state, number=number: done.append(number) or {"a": number})  # type: ignore[misc,func-returns-value]
    builder.add_edge(START, "n0")
    for number in range(3):
        builder.add_edge(f"n{number}", f"n{number + 1}")
    monkeypatch.setattr(saver.store, "put", lost)
    monkeypatch.setattr(saver.store, "put_writes", lost)
    with pytest.raises(StoreUnavailable):
        builder.compile(checkpointer=saver).invoke({"a": 0}, CONFIG, durability=durability)
    assert len(done) == ran


# Ids


def test_an_int_and_a_uuid_are_taken_as_their_text(saver: SQLiteSaver) -> None:
    identity = UUID(int=7)
    put(saver, {"a": 1}, config_of(42))
    put(saver, {"a": 2}, config_of(identity))
    assert saver.get_tuple(config_of("42")) is not None
    assert saver.get_tuple(config_of(str(identity))) is not None
    saver.delete_thread(42)  # type: ignore[arg-type]
    assert saver.get_tuple(config_of("42")) is None


def test_the_longest_id_works(saver: SQLiteSaver) -> None:
    longest = "é" * 256
    put(saver, {"a": 1}, config_of(longest))
    assert [thread.thread_id for thread in saver.threads()] == [longest]
    assert [found.config["configurable"]["thread_id"] for found in saver.list(None)] == [longest]


# Versions


def test_versions_go_on_from_those_of_other_savers(saver: SQLiteSaver) -> None:
    for current in (None, 3, 3.0, "00000000000000000000000000000003.0.1234567890123456"):
        following = saver.get_next_version(current, None)
        assert int(following.split(".")[0]) == (1 if current is None else 4)
        if isinstance(current, str):
            assert following > current
    assert len({saver.get_next_version("3.1") for _ in range(1000)}) == 1000


# Listings


def test_times_are_aware_and_in_order(saver: SQLiteSaver) -> None:
    before = datetime.now(UTC)
    stored = put(saver, {"a": 1})
    saver.put_writes(stored, [("__interrupt__", (Interrupt("?", id="i"),))], "task")
    thread, waiting = next(saver.threads()), next(saver.interrupts())
    assert before <= thread.created_at <= waiting.created_at == thread.updated_at <= datetime.now(UTC)
    info = next(saver.history(CONFIG))
    assert info.created_at is not None
    assert info.created_at.tzinfo is not None


def test_what_a_clock_that_is_behind_adds_does_not_put_a_thread_back_in_time(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = put(saver, {"a": 1})
    [before] = saver.threads()
    monkeypatch.setattr("checkpoint_base.saver.now", lambda: 0)
    saver.put_writes(stored, [("a", 2)], "task")
    [between] = saver.threads()
    put(saver, {"a": 2}, stored)
    [after] = saver.threads()
    assert len({(thread.created_at, thread.updated_at) for thread in (before, between, after)}) == 1


def test_a_checkpoints_time_without_an_offset_is_one_of_utc(saver: SQLiteSaver) -> None:
    checkpoint: Any = {**empty_checkpoint(), "ts": "2024-05-01T12:00:00"}
    saver.put(CONFIG, checkpoint, {"step": 1}, {})
    assert [info.created_at for info in saver.history(CONFIG)] == [datetime(2024, 5, 1, 12, tzinfo=UTC)]
    assert next(saver.history(CONFIG)).created_at < next(saver.threads()).created_at  # type: ignore[operator]


def test_a_value_without_a_version_is_left_out_as_in_langgraph_s_savers(saver: SQLiteSaver) -> None:
    found = []
    for each in (saver, InMemorySaver()):
        checkpoint: Any = {**empty_checkpoint(), "channel_values": {"a": 1, "b": 2}, "channel_versions": {"b": "1.1"}}
        found.append(each.get_tuple(each.put(CONFIG, checkpoint, {}, {"b": "1.1"})))
    assert [each and each.checkpoint["channel_values"] for each in found] == [{"b": 2}, {"b": 2}]


def test_a_step_cuts_only_the_end_of_a_list_that_it_adds_to(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []

    def noted(data: bytes, start: int, objects_each: int) -> Iterator[int]:
        cut.append(len(data) - start)
        return element_ends(data, start, objects_each)

    monkeypatch.setattr(codec, "element_ends", noted)
    messages = [f"message {number} ".ljust(1000, ".") for number in range(400)]
    put(saver, {"log": [*messages, "one more"]}, put(saver, {"log": messages}))
    whole, end = cut
    assert whole > 400_000
    assert end < 100_000


def test_numbers_of_a_config_become_metadata_and_keys_that_are_no_texts_do_not(saver: SQLiteSaver, path: Path) -> None:
    config: Any = {**CONFIG, "metadata": {"score": 0.5, "tries": 2, 3: "three"}}
    saver.put(config, empty_checkpoint(), {"step": 1}, {})
    with SQLiteSaver(path) as reader:
        assert [found.metadata for found in reader.list(None, filter={"score": 0.5})] == [
            {"step": 1, "score": 0.5, "tries": 2}
        ]


def test_a_clone_shares_the_store_and_keeps_its_own_allowlist(path: Path) -> None:
    with SQLiteSaver(path, strict=True) as saver:
        clone = saver.with_allowlist([("tests.shapes", "Point")])
        assert clone is not saver
        stored = put(clone, {"a": 1})  # type: ignore[arg-type]
        assert saver.get_tuple(stored) == copy.copy(saver).get_tuple(stored)
        saver.put_writes(stored, [("a", 2)], "task")
        found = clone.get_tuple(stored)
        assert found is not None
        assert found.pending_writes == [("task", "a", 2)]


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_saver_that_is_sent_to_another_process_says_what_to_send_instead(copied: Any, saver: SQLiteSaver) -> None:
    with pytest.raises(UnsupportedOperation, match="pass on the URL of the store"):
        copied(saver)


@pytest.mark.parametrize("version", ["1", 1, 1.5, np.float64(1.5)], ids=repr)
def test_a_version_is_read_as_one_that_it_equals(saver: SQLiteSaver, version: Any) -> None:
    checkpoint: Any = {**empty_checkpoint(), "channel_values": {"a": 2}, "channel_versions": {"a": version}}
    found = saver.get_tuple(saver.put(CONFIG, checkpoint, {}, {"a": version}))
    assert found
    assert found.checkpoint["channel_values"] == {"a": 2}
    assert found.checkpoint["channel_versions"] == {"a": version}


def test_a_version_that_is_none_is_damage() -> None:
    for version in ("", "i", "ix", "i" + "9" * 5000, "f", "x"):
        with pytest.raises(CorruptCheckpoint, match="damaged"):
            version_of(version)


def test_an_encrypted_store_holds_no_plain_text_and_is_still_filtered(path: Path) -> None:
    for inner in (JsonPlusSerializer(), ExactSerializer()):
        serde = EncryptedSerializer.from_pycryptodome_aes(inner, key=b"0123456789abcdef")
        with SQLiteSaver(path, serde=serde) as saver:
            config = config_of(type(inner).__name__)
            stored = put(saver, {"secret": ["hidden text " * 300] * 5}, config, team="hidden team")
            put(saver, {"secret": ["hidden text"]}, stored, team="other")
            saver.put_writes(stored, [("secret", "hidden write")], "task")
            found = saver.get_tuple(stored)
            assert found is not None
            assert found.checkpoint["channel_values"] == {"secret": ["hidden text " * 300] * 5}
            assert found.pending_writes == [("task", "secret", "hidden write")]
            assert len(list(saver.list(config, filter={"team": "hidden team"}))) == 1
            assert len(list(saver.threads(metadata={"team": "hidden team"}))) == 0
    content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"hidden" not in content
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT DISTINCT terms FROM checkpoints").fetchall() == [(b"",)]  # no digest to compare


def test_the_wrong_key_is_an_error_and_not_an_empty_thread(path: Path) -> None:
    with SQLiteSaver(path, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")) as saver:
        put(saver, {"a": 1})
    with (
        SQLiteSaver(path, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"another key 1234")) as saver,
        pytest.raises(SerializationError, match="was it encrypted with another key"),
    ):
        saver.get_tuple(CONFIG)


@pytest.mark.parametrize("error", [ValueError("no"), asyncio.CancelledError("no")])
def test_an_error_of_a_node_is_kept_as_its_text(saver: SQLiteSaver, error: BaseException) -> None:
    stored = put(saver, {"a": 1})
    asyncio.run(saver.aput_writes(stored, [("__error__", error)], "task"))
    found = saver.get_tuple(stored)
    assert found is not None
    assert found.pending_writes == [("task", "__error__", repr(error))]


def test_an_error_that_cannot_be_described_is_kept_as_its_class(saver: SQLiteSaver) -> None:
    class Spiteful(Exception):
        def __repr__(self) -> str:
            raise KeyError("no")

    stored = put(saver, {"a": 1})
    saver.put_writes(stored, [("__error__", Spiteful())], "task")
    assert saver.get_tuple(stored).pending_writes == [("task", "__error__", "<Spiteful>")]  # type: ignore[union-attr]


def test_any_chunk_that_is_missing_is_told_and_no_other(saver: SQLiteSaver) -> None:
    chunks = {id_: Chunk(id_, b"body") for id_ in (bytes([number]) * 16 for number in range(5))}
    key = CheckpointKey("thread", "", "1")

    def put_write(ids: Iterable[bytes], sent: dict[bytes, Chunk]) -> Missing:
        write = WriteRecord("task", 0, "n", "", ValueRecord(b"", b"".join(ids)), 0, settles=True, written_at=1)
        return run(saver.store.put_writes(key, [write], sent), saver.store.transport)

    for missing in chunks:
        there = {id_: chunk for id_, chunk in chunks.items() if id_ != missing}
        assert not put_write(there, there)
        assert put_write(chunks, {}).chunks == {missing}
        saver.delete_thread("thread")


def test_only_a_channel_with_a_version_and_without_a_value_needs_the_ancestors(saver: SQLiteSaver, path: Path) -> None:
    first = put(saver, {"n": 1})
    saver.delete_thread("thread")
    checkpoint: Any = {**empty_checkpoint(), "channel_values": {"log": [1]}, "channel_versions": {"log": "2.1"}}
    metadata: Any = {"counters_since_delta_snapshot": {"log": (0, 0), "never written": (1, 1)}}
    stored = saver.put(first, checkpoint, metadata, {"log": "2.1"})
    with SQLiteSaver(path) as reader:
        found = reader.get_tuple(stored)
    assert found is not None
    assert found.checkpoint["channel_values"] == {"log": [1]}


class Run(str, Enum):  # noqa: UP042  # the text of its members is another one
    A = "run-1"


def test_a_run_id_that_is_a_member_of_an_enum_is_the_text_that_it_equals(saver: SQLiteSaver) -> None:
    put(saver, {"n": 1}, run_id=Run.A)
    put(saver, {"n": 1}, config_of("other"), run_id="run-2")
    [(found,), _] = saver.store.transport.execute(
        Transaction(lambda db: db.execute("SELECT run_id FROM checkpoints ORDER BY run_id").fetchall())
    )
    assert found == "run-1"
    saver.delete_for_runs([Run.A])
    assert [each.thread_id for each in saver.threads()] == ["other"]


@pytest.mark.timeout(20)
def test_parents_that_form_a_ring_are_each_gone_through_once(saver: SQLiteSaver, path: Path) -> None:
    for id_, parent_id in (("1", "3"), ("2", "1"), ("3", "2")):
        checkpoint: Any = {**empty_checkpoint(), "id": id_, "channel_versions": {"log": "1.1"}}
        stored = saver.put(config_of("thread", checkpoint_id=parent_id), checkpoint, {}, {})
        saver.put_writes(stored, [("log", f"of {id_}")], "task")
    with SQLiteSaver(path) as reader:
        history = reader.get_delta_channel_history(config=stored, channels=["log"])
        assert history == {"log": {"writes": [("task", "log", "of 1"), ("task", "log", "of 2")]}}
        reader.prune(["thread"])
    assert [found.checkpoint_id for found in saver.history(None)] == ["3"]


def test_a_delta_channel_does_not_begin_with_the_value_of_another_thread(saver: SQLiteSaver, path: Path) -> None:
    for thread, values in (("before", {"log": ["b"]}), ("thread", {}), ("behind", {"log": ["c"]})):
        config = config_of(thread, checkpoint_ns="")
        for values_of_step in (values, {}):
            checkpoint: Any = {**empty_checkpoint(), "channel_values": values_of_step, "channel_versions": {"log": "1"}}
            metadata: Any = {"counters_since_delta_snapshot": {"log": (1, 1)}}
            config = saver.put(config, checkpoint, metadata, {"log": "1"})
            saver.put_writes(config, [("log", thread)], "task")
    with SQLiteSaver(path) as reader:
        history = reader.get_delta_channel_history(config=config_of("thread"), channels=["log"])
    assert history == {"log": {"writes": [("task", "log", "thread")]}}


# What one thread, fork or folder does to others


def test_a_node_that_seeds_the_random_module_does_not_repeat_versions(saver: SQLiteSaver) -> None:
    import random

    versions = set()
    for _ in range(100):
        random.seed(0)
        versions.add(saver.get_next_version("1.1"))
    assert len(versions) == 100


def test_setting_up_takes_no_request_twice(path: Path) -> None:
    with SQLiteSaver(path):
        pass
    saver = SQLiteSaver(path)
    transport = counted(saver)
    saver.setup()
    assert saver.get_tuple(CONFIG) is None
    assert transport.requests == 2
    saver.close()


def test_memory_of_threads_without_chunks_does_not_grow(saver: SQLiteSaver) -> None:
    for number in range(50):
        put(saver, {"a": number}, config_of(f"t{number}"))
    assert saver._memory.get().seen._seen == {}


@pytest.mark.parametrize("metadata", [{}, {"parents": None}, {"parents": "by hand"}, {"parents": {"": 1}}])
def test_a_call_whose_metadata_does_not_say_where_it_began_is_stored(saver: SQLiteSaver, metadata: Any) -> None:
    called: Any = {"configurable": {"thread_id": "called", "checkpoint_ns": f"agent:{uuid4()}"}}
    saver.put(called, empty_checkpoint(), metadata, {})
    assert [found.metadata for found in saver.list(called)] == [metadata]
