"""What is listed, and in which order: checkpoints, threads and questions, also those that cannot be read."""

from __future__ import annotations

import os
import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.types import Interrupt

from checkpoint_base import (
    ExactSerializer,
    SchemaMismatch,
    SQLiteSaver,
    UnsupportedOperation,
    codec,
    paging,
)
from checkpoint_base.codec import Codec
from tests.conftest import CONFIG, config_of, counted, put


def test_a_thread_of_which_only_writes_have_arrived_is_not_listed_yet(saver: SQLiteSaver) -> None:
    saver.put_writes(config_of("early", checkpoint_id="1"), [("__interrupt__", (Interrupt("?", id="i"),))], "task")
    assert list(saver.threads()) == []
    assert list(saver.interrupts()) == []
    saver.delete_thread("early")


def test_a_checkpoint_with_an_odd_time_is_listed_without_one(saver: SQLiteSaver) -> None:
    checkpoint: Any = {**empty_checkpoint(), "ts": "noon"}
    saver.put(CONFIG, checkpoint, {"step": 1}, {})
    assert [info.created_at for info in saver.history(CONFIG)] == [None]


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


def test_history_reads_neither_values_nor_writes(saver: SQLiteSaver, path: Path) -> None:

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


def test_a_filter_on_numpy_s_booleans_finds_them(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1}, ok=np.bool_(True))
    assert len(list(saver.list(None, filter={"ok": True}))) == 1
    assert len(list(saver.list(None, filter={"ok": np.bool_(True)}))) == 1
    assert list(saver.list(None, filter={"ok": False})) == []


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


def test_an_order_that_is_none_is_refused(saver: SQLiteSaver) -> None:
    order: Any = "latest"
    for listing in (saver.threads, saver.interrupts):
        with pytest.raises(UnsupportedOperation, match="unknown order 'latest': use 'newest' or 'oldest'"):
            list(listing(order=order))


def test_a_thread_of_subgraphs_alone_has_no_step_whatever_is_done_to_it(saver: SQLiteSaver, path: Path) -> None:
    put(saver, {"a": 1}, config_of("thread", checkpoint_ns="sub"))
    saver.copy_thread("thread", "copy")
    saver.prune(["thread"])
    with SQLiteSaver(path) as reader:
        listed = {each.thread_id: (each.step, each.error) for each in reader.threads()}
    assert listed == dict.fromkeys(("copy", "thread"), (None, None))


def test_a_question_that_cannot_be_read_is_listed_and_hides_no_other(path: Path) -> None:

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
