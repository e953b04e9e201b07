"""What the saver refuses, with an error of the right class that names the next step, and changes nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt

from checkpoint_base import (
    ConflictError,
    InvalidKey,
    SerializationError,
    SQLiteSaver,
    UnsupportedOperation,
    codec,
    open_saver,
)
from checkpoint_base.records import Order
from tests.conftest import CONFIG, config_of, put


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "'configurable'"),
        ("thread", "'configurable'"),
        ({"configurable": "thread"}, "'configurable'"),
        ({"configurable": {}}, "names no thread"),
        (config_of(None), "names no thread"),
        (config_of(""), "thread_id is empty"),
        (config_of(True), "must be text, not bool"),
        (config_of(1.5), "must be text, not float"),
        (config_of(b"x"), "must be text, not bytes"),
        (config_of("a\0b"), r"thread_id holds the character '\\x00'"),
        (config_of("a\ud800b"), r"thread_id holds the character '\\ud800'"),
        (config_of("x" * 513), "longer than 512 bytes"),
        (config_of("é" * 257), "longer than 512 bytes"),
        (config_of("t", checkpoint_ns=3), "checkpoint_ns must be text"),
        (config_of("t", checkpoint_ns="a\0"), "checkpoint_ns holds"),
        (config_of("t", checkpoint_id=5), "checkpoint_id must be text"),
        (config_of("t", checkpoint_id="x" * 600), "checkpoint_id is longer"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused_by_every_method(config: Any, message: str, saver: SQLiteSaver) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: saver.get_tuple(config),
        lambda: saver.list(config),
        lambda: saver.history(config),
        lambda: put(saver, {"a": 1}, config),
        lambda: saver.put_writes(config, [("a", 1)], "task"),
        lambda: saver.get_delta_channel_history(config=config, channels=["a"]),
    ]
    for call in calls:
        with pytest.raises(InvalidKey, match=message):
            call()
    assert list(saver.threads()) == []


def test_ids_in_other_arguments_are_checked_too(saver: SQLiteSaver) -> None:
    stored = put(saver, {"a": 1})
    for call in (
        lambda: saver.delete_thread(""),
        lambda: saver.copy_thread("thread", "\0"),
        lambda: saver.prune(["thread", ""]),
        lambda: saver.put_writes(stored, [("a", 1)], ""),
        lambda: saver.interrupts(thread_id=""),
        lambda: saver.threads(thread_id="x" * 1000),
    ):
        with pytest.raises(InvalidKey):
            call()
    with pytest.raises(InvalidKey, match=r"pass \['thread'\]"):
        saver.prune("thread")
    with pytest.raises(InvalidKey, match=r"pass \['run'\]"):
        saver.delete_for_runs("run")
    assert saver.get_tuple(stored) is not None


@pytest.mark.parametrize("given", [None, 5, "messages", b"x", 0.5])
def test_one_thing_in_the_place_of_several_is_refused(given: Any, saver: SQLiteSaver) -> None:
    stored = put(saver, {"a": 1})
    for name, call in (
        ("run_ids", saver.delete_for_runs),
        ("thread_ids", saver.prune),
        ("channels", lambda names: saver.get_delta_channel_history(config=stored, channels=names)),
    ):
        with pytest.raises(InvalidKey, match=f"{name} must be a sequence of texts, not {type(given).__name__}: pass"):
            call(given)
    assert saver.get_tuple(stored) is not None


@pytest.mark.parametrize("given", [5, "user", [("user", "ada")]])
def test_what_must_be_a_mapping_and_is_none_is_refused(given: Any, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    checkpoint = empty_checkpoint()
    for name, call in (
        ("filter", lambda: saver.list(CONFIG, filter=given)),
        ("filter", lambda: saver.history(CONFIG, filter=given)),
        ("metadata", lambda: saver.threads(metadata=given)),
        ("metadata", lambda: saver.interrupts(metadata=given)),
        ("checkpoint", lambda: saver.put(CONFIG, given, {}, {})),
        ("metadata", lambda: saver.put(CONFIG, checkpoint, given, {})),
        ("new_versions", lambda: saver.put(CONFIG, checkpoint, {}, given)),
    ):
        with pytest.raises(UnsupportedOperation, match=f"^{name} must be a mapping, not {type(given).__name__}$"):
            call()
    with pytest.raises(InvalidKey, match=r"^before must be a mapping"):
        saver.list(CONFIG, before=given)
    assert len(list(saver.history(CONFIG))) == 1


def test_writes_need_a_checkpoint(saver: SQLiteSaver) -> None:
    with pytest.raises(InvalidKey, match="no checkpoint_id"):
        saver.put_writes(CONFIG, [("a", 1)], "task")


def test_an_unknown_strategy_or_order_names_the_known_ones(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    with pytest.raises(UnsupportedOperation, match="'keep_latest' or 'delete'"):
        saver.prune(["thread"], strategy="keep_all")
    with pytest.raises(UnsupportedOperation, match="'newest' or 'oldest'"):
        saver.interrupts(order="random")  # type: ignore[arg-type]
    assert len(list(saver.list(CONFIG))) == 1


def cursor_text(*parts: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "nonsense",
        "W10",
        "é",
        "bnVsbA",
        "W1sxLDIsM10sbnVsbCwwXQ",
        cursor_text("interrupts, newest first", [2**63, "a", "b"], None, 0),
        cursor_text("interrupts, newest first", [-1, "a", "b"], None, 0),
        cursor_text("interrupts, newest first", [1, "a\0", "b"], None, 0),
        cursor_text("interrupts, newest first", [1, "a", "\0"], None, 0),
        cursor_text("interrupts, newest first", [1, "a"], None, 0),
        cursor_text("interrupts, newest first", None, None, -1),
        cursor_text("interrupts, newest first", None, None, 0.5),
    ],
)
def test_a_cursor_from_elsewhere_is_refused(cursor: str, saver: SQLiteSaver) -> None:
    with pytest.raises(InvalidKey, match="is not a cursor"):
        saver.interrupts(after=cursor)


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_a_cursor_of_another_listing_or_order_is_refused(order: Order, saver: SQLiteSaver) -> None:
    for thread_id in "ab":
        stored = put(saver, {}, {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
        saver.put_writes(stored, [("__interrupt__", [Interrupt("go on?", id="1")])], "task")
    thread, question = next(saver.threads(order=order)), next(saver.interrupts(order=order))
    assert len(list(saver.threads(order=order, after=thread.cursor))) == 1
    assert len(list(saver.interrupts(order=order, after=question.cursor))) == 1
    other: Order = "oldest" if order == "newest" else "newest"
    for listing, chosen, cursor in (
        (saver.threads, other, thread.cursor),
        (saver.threads, order, question.cursor),
        (saver.interrupts, other, question.cursor),
        (saver.interrupts, order, thread.cursor),
    ):
        with pytest.raises(InvalidKey, match=f"of another listing, .*: pass one of {listing.__name__}, {chosen} first"):
            listing(order=chosen, after=cursor)


@pytest.mark.parametrize("serde", [None, JsonPlusSerializer(), EncryptedSerializer(None, JsonPlusSerializer())])
def test_a_value_that_cannot_be_stored_is_named_and_nothing_is_stored(path: Path, serde: Any) -> None:
    with SQLiteSaver(path, serde=serde) as saver:
        with pytest.raises(SerializationError, match=r"channel 'bad'|checkpoint"):
            put(saver, {"good": 1, "bad": {"deep": [object()]}})
        assert list(saver.history(None)) == []
        assert saver.get_tuple(CONFIG) is None


def test_the_place_of_a_bad_value_in_writes_and_metadata_is_named(saver: SQLiteSaver) -> None:
    stored = put(saver, {"a": 1})
    with pytest.raises(SerializationError, match=r"write 1 to 'b' of task task-1.*\[\"x\"\]"):
        saver.put_writes(stored, [("a", 1), ("b", {"x": object()})], "task-1")
    with pytest.raises(SerializationError, match=r"checkpoint .* of thread 'thread'"):
        put(saver, {"a": 2}, stored, mine=object())
    found = saver.get_tuple(CONFIG)
    assert found is not None
    assert found.pending_writes == []
    assert found.checkpoint["channel_values"] == {"a": 1}


def test_a_value_that_is_too_long_is_named_and_nothing_is_stored(
    saver: SQLiteSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "MAX_VALUE_BYTES", 1000)
    with pytest.raises(SerializationError, match=r"channel 'long' of .* are more than 1000"):
        put(saver, {"short": "a", "long": "a" * 1000})
    assert saver.get_tuple(CONFIG) is None


def test_a_copy_onto_another_thread_is_a_conflict_and_changes_nothing(saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    put(saver, {"b": 2}, config_of("other"))
    with pytest.raises(ConflictError, match="'other' has checkpoints"):
        saver.copy_thread("thread", "other")
    assert [found.checkpoint["channel_values"] for found in saver.list(config_of("other"))] == [{"b": 2}]


@pytest.mark.parametrize("limit", [-1, 2.5, "3"])
def test_a_limit_that_is_no_number_of_items_is_refused(limit: Any, saver: SQLiteSaver) -> None:
    put(saver, {"a": 1})
    listings = (partial(saver.list, CONFIG), partial(saver.history, CONFIG), saver.threads, saver.interrupts)
    asynchronous = (partial(saver.alist, CONFIG), partial(saver.ahistory, CONFIG), saver.athreads, saver.ainterrupts)
    for listing in (*listings, *asynchronous):
        with pytest.raises(UnsupportedOperation, match=f"limit={limit!r}: give a number of items from 0 on"):
            listing(limit=limit)


@pytest.mark.parametrize("deadline", [-1.0, float("nan"), float("inf"), "5", None])
def test_a_deadline_that_never_ends_or_is_no_number_is_refused(deadline: Any) -> None:
    with pytest.raises(UnsupportedOperation, match=r"deadline=.*: give a number of seconds"):
        SQLiteSaver(deadline=deadline)


@pytest.mark.parametrize("strict", ["false", "true", 1, None])
def test_strict_is_true_or_false_and_no_text_that_counts_as_true(strict: Any) -> None:
    with pytest.raises(UnsupportedOperation, match=r"strict=.*: give True or False"):
        open_saver("sqlite://", strict=strict)


@pytest.mark.parametrize("compression", ["none", "gzip", "ZSTD", True])
def test_a_compression_that_does_not_exist_is_refused_and_not_taken_for_zstd(compression: Any) -> None:
    with pytest.raises(UnsupportedOperation, match=r"compression=.*: give 'zstd' or None"):
        SQLiteSaver(compression=compression)


def test_odd_arguments_raise_errors_of_ours(saver: SQLiteSaver) -> None:
    stored = put(saver, {"a": 1})
    checkpoint: Any = empty_checkpoint()
    del checkpoint["id"]
    with pytest.raises(InvalidKey, match="checkpoint_id"):
        saver.put(CONFIG, checkpoint, {}, {})
    with pytest.raises(InvalidKey, match="channel's name"):
        saver.put_writes(stored, [(3, 1)], "task")  # type: ignore[list-item]
    with pytest.raises(InvalidKey, match="channel version"):
        saver.put(CONFIG, {**empty_checkpoint(), "channel_versions": {"a": True}}, {}, {})

    class Unspeakable(Exception):
        def __repr__(self) -> str:
            raise RuntimeError

    saver.put_writes(stored, [("__error__", Unspeakable())], "task")
    found = saver.get_tuple(stored)
    assert found is not None
    assert found.pending_writes == [("task", "__error__", "<Unspeakable>")]
