"""The saver's own promises, beside the contract: listings, clones, encryption, threads that are removed meanwhile."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
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
    ConflictError,
    CorruptCheckpoint,
    ExactSerializer,
    InvalidKey,
    SchemaMismatch,
    SerializationError,
    SQLiteSaver,
    StoreUnavailable,
    UnsupportedOperation,
    codec,
    paging,
)
from checkpoint_base.codec import Codec
from checkpoint_base.keys import CheckpointKey, version_of
from checkpoint_base.msgpack import element_ends
from checkpoint_base.records import Chunk, Missing, ValueRecord, WriteRecord
from checkpoint_base.sqlite.transport import Transaction
from checkpoint_base.store import MAX_KEPT, THREADS_AT_ONCE
from checkpoint_base.transport import Operation, run
from tests.conftest import counted

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def put(saver: SQLiteSaver, values: dict[str, Any], config: Any = CONFIG, **metadata: Any) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)


def config_of(thread_id: object, **entries: object) -> Any:
    return {"configurable": {"thread_id": thread_id, **entries}}


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


def test_a_thread_of_which_only_writes_have_arrived_is_not_listed_yet(saver: SQLiteSaver) -> None:
    saver.put_writes(config_of("early", checkpoint_id="1"), [("__interrupt__", (Interrupt("?", id="i"),))], "task")
    assert list(saver.threads()) == []
    assert list(saver.interrupts()) == []
    saver.delete_thread("early")


def test_a_checkpoint_with_an_odd_time_is_listed_without_one(saver: SQLiteSaver) -> None:
    checkpoint: Any = {**empty_checkpoint(), "ts": "noon"}
    saver.put(CONFIG, checkpoint, {"step": 1}, {})
    assert [info.created_at for info in saver.history(CONFIG)] == [None]


def test_a_checkpoints_time_without_an_offset_is_one_of_utc(saver: SQLiteSaver) -> None:
    checkpoint: Any = {**empty_checkpoint(), "ts": "2024-05-01T12:00:00"}
    saver.put(CONFIG, checkpoint, {"step": 1}, {})
    assert [info.created_at for info in saver.history(CONFIG)] == [datetime(2024, 5, 1, 12, tzinfo=UTC)]
    assert next(saver.history(CONFIG)).created_at < next(saver.threads()).created_at  # type: ignore[operator]


def test_what_is_asked_meanwhile_does_not_come_behind_a_cursor(saver: SQLiteSaver) -> None:
    def ask(name: str, *questions: str) -> None:
        asked = tuple(Interrupt(question, id=question) for question in questions)
        saver.put_writes(put(saver, {"a": 1}, config_of(name)), [("__interrupt__", asked)], "task")

    ask("one", "1")
    ask("two", "2", "3")
    first, second = saver.interrupts(limit=2)
    assert (first.value, second.value) == ("2", "3")
    ask("three", "4")
    assert [each.value for each in saver.interrupts(after=first.cursor)] == ["3", "1"]
    assert [each.value for each in saver.interrupts(after=second.cursor)] == ["1"]


def test_one_id_in_many_namespaces_is_listed_once_for_each_page_by_page(
    saver: SQLiteSaver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint: Any = {**empty_checkpoint(), "id": "1"}
    for namespace in "bdace":
        saver.put(config_of("thread", checkpoint_ns=namespace), checkpoint, {}, {})
    monkeypatch.setattr(paging, "FIRST_FULL_PAGE", 2)
    monkeypatch.setattr(paging, "PAGE", 2)
    with SQLiteSaver(path) as reader:
        for config in (None, config_of("thread")):
            listed = [found.config["configurable"]["checkpoint_ns"] for found in reader.list(config)]
            assert listed == ["e", "d", "c", "b", "a"]
            assert [found.checkpoint_ns for found in reader.history(config)] == listed


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


def test_history_reads_neither_values_nor_writes(saver: SQLiteSaver, path: Path) -> None:
    import sqlite3

    put(saver, {"a": ["x" * 2000] * 20})
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM chunks")
        db.execute("DELETE FROM channel_values")
    db.close()
    assert [info.metadata["step"] for info in saver.history(CONFIG)] == [1]


@pytest.mark.parametrize("written", [{"reason": "by hand"}, [Interrupt("first", id="1"), "by hand"], "by hand", None])
def test_what_somebody_wrote_to_the_channel_of_questions_is_listed_and_hides_no_question(
    saver: SQLiteSaver, written: Any
) -> None:
    for thread_id, value in (("asks", [Interrupt("go on?", id="1")]), ("odd", written)):
        stored = put(saver, {}, config_of(thread_id))
        saver.put_writes(stored, [("__interrupt__", value)], "task")
    odd, asks = saver.interrupts()
    assert (asks.thread_id, asks.value, asks.error) == ("asks", "go on?", None)
    assert (odd.thread_id, odd.interrupt_id, odd.value) == ("odd", None, None)
    assert odd.error is not None
    assert "is no Interrupt of LangGraph" in odd.error
    asked = len(written) if isinstance(written, list) else 1
    assert [each.pending_interrupts for each in saver.threads(order="oldest")] == [1, asked]


def test_what_the_null_task_writes_asks_nothing(saver: SQLiteSaver) -> None:
    stored = put(saver, {}, CONFIG)
    question = ("__interrupt__", (Interrupt("go on?", id="1"),))
    saver.put_writes(stored, [question], "00000000-0000-0000-0000-000000000000")
    assert list(saver.interrupts()) == []
    assert [each.pending_interrupts for each in saver.threads()] == [0]


@pytest.mark.parametrize("channel", ["__error__", "__error_source_node__", "__resume__"])
def test_what_tells_of_a_task_settles_no_question(saver: SQLiteSaver, path: Path, channel: str) -> None:
    stored = put(saver, {})
    saver.put_writes(stored, [("__interrupt__", (Interrupt("go on?", id="1"),))], "task")
    saver.put_writes(stored, [(channel, "of the task")], "task")
    with SQLiteSaver(path) as reader:
        assert [waiting.value for waiting in reader.interrupts()] == ["go on?"]


def test_only_what_a_task_writes_where_it_asked_settles_its_question(saver: SQLiteSaver, path: Path) -> None:
    earlier = put(saver, {})
    stored = put(saver, {}, earlier)
    for where, question in ((earlier, "another?"), (stored, "go on?")):
        saver.put_writes(where, [("__interrupt__", (Interrupt(question, id=question),))], "task")
    saver.put_writes(stored, [("__resume__", ["an earlier answer"])], "task")
    saver.copy_thread("thread", "copy")
    in_the_copy = config_of("copy", checkpoint_id=stored["configurable"]["checkpoint_id"])
    with SQLiteSaver(path) as reader:

        def expect(*threads: str) -> None:
            for listed in (reader.interrupts(), reader.interrupts(order="oldest")):
                assert sorted((each.thread_id, each.value) for each in listed) == [(one, "go on?") for one in threads]
            for thread in ("copy", "thread"):
                named = [each.value for each in reader.interrupts(thread_id=thread)]
                assert named == ["go on?"] * (thread in threads)

        expect("copy", "thread")
        for elsewhere in (in_the_copy, earlier):
            saver.put_writes(elsewhere, [("a", 1)], "task")
            saver.put_writes(stored, [("__resume__", ["another answer"])], "task")
            expect("thread")
            saver.prune(["thread"], keep=2)
            expect("thread")
        saver.put_writes(stored, [("a", 1)], "task")
        expect()


def test_a_listing_goes_on_behind_any_question_of_a_task_also_if_it_began_behind_one(
    saver: SQLiteSaver, path: Path
) -> None:
    for thread in ("one", "two"):
        asked = [Interrupt(f"{thread} {letter}", id=letter) for letter in "abcd"]
        saver.put_writes(put(saver, {}, config_of(thread)), [("__interrupt__", asked)], "task")
    everything = [f"{thread} {letter}" for thread in ("one", "two") for letter in "abcd"]
    with SQLiteSaver(path) as reader:
        for start, each in enumerate(list(reader.interrupts(order="oldest")), 1):
            for end, further in enumerate(list(reader.interrupts(order="oldest", after=each.cursor)), start + 1):
                behind = [found.value for found in reader.interrupts(order="oldest", after=further.cursor)]
                assert [each.value, further.value, *behind] == [everything[start - 1], *everything[end - 1 :]]


def test_questions_without_ids_are_listed_one_by_one(saver: SQLiteSaver) -> None:
    stored = put(saver, {}, CONFIG)
    saver.put_writes(stored, [("__interrupt__", [Interrupt("one?"), Interrupt("two?")])], "task")
    assert [waiting.value for waiting in saver.interrupts()] == ["one?", "two?"]
    assert [thread.pending_interrupts for thread in saver.threads()] == [2]


# Serializers


def test_a_listing_joins_a_value_once_and_rebuilds_it_for_each_checkpoint(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = put(saver, {"notes": [{"text": "x" * 9000}]})
    version = saver.get_tuple(config).checkpoint["channel_versions"]["notes"]  # type: ignore[union-attr]
    for step in (2, 3):
        checkpoint: Any = empty_checkpoint()
        checkpoint.update(channel_values={"notes": [{"text": "x" * 9000}]}, channel_versions={"notes": version})
        config = saver.put(config, checkpoint, {"source": "loop", "step": step}, {})
    put(saver, {"notes": [{"text": "x" * 9000}]}, config_of("another", checkpoint_ns=""))

    joined: list[str] = []
    decode = Codec.decode

    def watched(self: Codec, record: Any, *arguments: Any, **options: Any) -> Any:
        if record.refs:
            joined.append(record.refs)
        return decode(self, record, *arguments, **options)

    monkeypatch.setattr(Codec, "decode", watched)
    everything = list(saver.list(None))
    assert len(everything) == 4
    assert len(joined) == 2, "one for each thread: each has the chunks of its own to be checked"

    everything[1].checkpoint["channel_values"]["notes"][0]["text"] = "changed by who was given it"
    assert [found.checkpoint["channel_values"]["notes"][0]["text"][0] for found in everything] == ["x", "c", "x", "x"]


def test_a_listing_holds_no_more_at_once_than_is_well_held(path: Path) -> None:
    config = CONFIG
    with SQLiteSaver(path) as writer:
        for number in range(60):
            config = put(writer, {"n": number, "large": os.urandom(2_000_000)}, config)
    with SQLiteSaver(path) as saver:
        transport = counted(saver)
        held: list[int] = []
        listing = saver.store.list

        def watched(query: Any) -> Any:
            page = yield from listing(query)
            held.append(sum(len(chunk.body) for found in page[:1] for chunk in found.chunks.values()))
            return page

        saver.store.list = watched  # type: ignore[method-assign]
        assert [found.checkpoint["channel_values"]["n"] for found in saver.list(CONFIG)] == [*range(59, -1, -1)]
        assert max(held[1:]) < 20_000_000 < held[0] < 60_000_000
        assert transport.requests == len(held) == 6
        held.clear()
        assert len(list(saver.list(CONFIG, limit=3))) == 3
        assert len(list(saver.history(CONFIG))) == 60
        assert len(held) == 2


def test_numbers_of_a_config_become_metadata_and_keys_that_are_no_texts_do_not(saver: SQLiteSaver, path: Path) -> None:
    config: Any = {**CONFIG, "metadata": {"score": 0.5, "tries": 2, 3: "three"}}
    saver.put(config, empty_checkpoint(), {"step": 1}, {})
    with SQLiteSaver(path) as reader:
        assert [found.metadata for found in reader.list(None, filter={"score": 0.5})] == [
            {"step": 1, "score": 0.5, "tries": 2}
        ]


def test_a_filter_on_numpy_s_booleans_finds_them(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1}, ok=np.bool_(True))
    assert len(list(saver.list(None, filter={"ok": True}))) == 1
    assert len(list(saver.list(None, filter={"ok": np.bool_(True)}))) == 1
    assert list(saver.list(None, filter={"ok": False})) == []


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


def test_an_array_of_several_numbers_equals_nothing(saver: SQLiteSaver, path: Path) -> None:
    put(saver, {"a": 1}, limits=np.array([1, 2]))
    with SQLiteSaver(path) as reader:
        for wanted in (np.array([1, 2]), 1, [1, 2]):
            assert list(reader.list(None, filter={"limits": wanted})) == []
            assert list(reader.threads(metadata={"limits": wanted})) == []
        assert [found.metadata["limits"].tolist() for found in reader.list(None)] == [[1, 2]]


def test_a_filter_on_what_has_no_term_finds_only_what_has_an_equal_entry(saver: SQLiteSaver, path: Path) -> None:
    for thread, entries in {"same": {"k": [1]}, "other": {"k": [2]}, "none": {}, "nan": {"k": Decimal("sNaN")}}.items():
        put(saver, {}, config_of(thread), **entries)
    with SQLiteSaver(path) as reader:
        for wanted, expected in (([1], ["same"]), ([3], []), (Decimal("sNaN"), [])):
            found = reader.list(None, filter={"k": wanted})
            assert [each.config["configurable"]["thread_id"] for each in found] == expected
            assert [thread.thread_id for thread in reader.threads(metadata={"k": wanted})] == expected


def test_a_signalling_nan_equals_nothing(path: Path) -> None:
    signalling = Decimal("sNaN")
    serde = EncryptedSerializer.from_pycryptodome_aes(ExactSerializer(), key=b"0123456789abcdef")
    with SQLiteSaver(path, serde=serde) as saver:
        for thread, value in {"one": 1, "nan": signalling}.items():
            put(saver, {}, config_of(thread, checkpoint_ns=""), k=value)
        assert [thread.thread_id for thread in saver.threads(metadata={"k": 1})] == ["one"]
        assert list(saver.list(None, filter={"k": signalling})) == []


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


def test_an_order_that_is_none_is_refused(saver: SQLiteSaver) -> None:
    order: Any = "latest"
    for listing in (saver.threads, saver.interrupts):
        with pytest.raises(UnsupportedOperation, match="unknown order 'latest': use 'newest' or 'oldest'"):
            list(listing(order=order))


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


def test_a_checkpoint_whose_ancestors_writes_are_gone_is_a_conflict(saver: SQLiteSaver) -> None:
    first = put(saver, {"n": 1})
    saver.copy_thread("thread", "copy")  # has a checkpoint of that id as well
    saver.delete_thread("thread")
    checkpoint: Any = {**empty_checkpoint(), "channel_versions": {"log": "2.1"}}
    with pytest.raises(ConflictError, match="log would be rebuilt from"):
        saver.put(first, checkpoint, {"counters_since_delta_snapshot": {"log": (1, 1)}}, {"log": "2.1"})
    assert [each.thread_id for each in saver.history(None)] == ["copy"]


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


def test_a_thread_of_subgraphs_alone_has_no_step_whatever_is_done_to_it(saver: SQLiteSaver, path: Path) -> None:
    put(saver, {"a": 1}, config_of("thread", checkpoint_ns="sub"))
    saver.copy_thread("thread", "copy")
    saver.prune(["thread"])
    with SQLiteSaver(path) as reader:
        listed = {each.thread_id: (each.step, each.error) for each in reader.threads()}
    assert listed == dict.fromkeys(("copy", "thread"), (None, None))


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


# What one thread, fork or folder does to others


def test_a_node_that_seeds_the_random_module_does_not_repeat_versions(saver: SQLiteSaver) -> None:
    import random

    versions = set()
    for _ in range(100):
        random.seed(0)
        versions.add(saver.get_next_version("1.1"))
    assert len(versions) == 100


def test_a_question_that_cannot_be_read_is_listed_and_hides_no_other(path: Path) -> None:
    import sqlite3

    with SQLiteSaver(path) as saver:
        for name in ("one", "two", "three"):
            stored = put(saver, {"a": 1}, config_of(name))
            saver.put_writes(stored, [("__interrupt__", (Interrupt(name, id=name),))], "task")
        db = sqlite3.connect(path)
        shortened = "CAST(substr(root, 1, length(root) - 1) AS BLOB)"
        db.execute(f"UPDATE writes SET root = {shortened} WHERE instr(root, 'two') > 0")
        db.execute("UPDATE checkpoints SET header = x'00' WHERE checkpoint = (SELECT max(checkpoint) FROM checkpoints)")
        db.commit()
        db.close()
        for filter_ in (None, {"step": 1}):  # what cannot be read is not known not to match
            questions = saver.interrupts(metadata=filter_, order="oldest")
            listed = [(each.thread_id, each.value, each.error is None) for each in questions]
            assert listed == [("one", "one", True), ("two", None, False), ("three", "three", False)]
            threads = saver.threads(metadata=filter_, order="oldest")
            listed_threads = [(each.thread_id, each.error is None) for each in threads]
            assert listed_threads == [("one", True), ("two", True), ("three", False)]
        after = [each.cursor for each in saver.interrupts(order="oldest", limit=2)][-1]
        assert [each.thread_id for each in saver.interrupts(order="oldest", after=after)] == ["three"]


def test_values_of_a_later_version_are_an_error_that_asks_for_an_upgrade_and_hide_no_others(path: Path) -> None:
    with SQLiteSaver(path) as saver:
        put(saver, {"a": 1}, config_of("old"))
    with SQLiteSaver(path) as later, pytest.MonkeyPatch.context() as newer:
        newer.setattr(codec, "_FORMAT", 2)
        stored = put(later, {"a": ["x" * 900] * 3}, config_of("new"))
        later.put_writes(stored, [("__interrupt__", (Interrupt("sure?", id="1"),))], "task")
    with SQLiteSaver(path) as saver:
        with pytest.raises(SchemaMismatch, match=r"of thread 'new': a stored value has format 2.* upgrade"):
            saver.get_tuple(config_of("new"))
        threads = {each.thread_id: each.error or "" for each in saver.threads()}
        assert threads["old"] == ""
        assert "upgrade" in threads["new"]
        assert ["upgrade" in (each.error or "") for each in saver.interrupts()] == [True]


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
