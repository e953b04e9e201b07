"""Filters on metadata are parameters, whatever they hold."""

from __future__ import annotations

from typing import Any

from checkpoint_base import open_saver
from checkpoint_postgres import PostgresSaver
from tests.postgres.conftest import CONFIG, Place, put_values

HOSTILE: list[str] = [
    "'; DROP TABLE checkpoints; --",
    "a' = 'a",
    'a" OR "a" = "a',
    "a') OR (1 = 1",
    "%s",
    "%(terms)s",
    "{schema}",
    "$1",
    "\\",
    "\\x00",
    "a.b[*] ? (@ > 1)",
    "a\0b",
    "\udcff",
    "",
    "x" * 10_000,
    "ключ 键",
]


def other_thread(number: int) -> Any:
    return {"configurable": {"thread_id": f"other {number}", "checkpoint_ns": ""}}


def test_no_key_and_no_value_of_a_filter_reaches_the_sql(saver: PostgresSaver, place: Place) -> None:
    for number, text in enumerate(HOSTILE):
        put_values(saver, {"n": number}, other_thread(number), **{text: text, "same": "for all"})
    sent: set[bytes] = set()
    execute = saver.store.transport.execute

    def spying(request: Any) -> Any:
        sent.add(request.sql)
        return execute(request)

    saver.store.transport.execute = spying  # type: ignore[method-assign]
    listed, threads = set(), set()
    for number, text in enumerate(HOSTILE):
        found = list(saver.list(None, filter={text: text, "same": "for all"}))
        assert [each.checkpoint["channel_values"]["n"] for each in found] == [number]
        listed |= sent
        sent.clear()
        assert [each.thread_id for each in saver.threads(metadata={text: text})] == [f"other {number}"]
        assert list(saver.list(None, filter={text: "something else"})) == []
        threads |= sent
        sent.clear()
    assert len(listed) == 1
    assert len(threads) == 2  # that of threads, and that of list again
    assert sorted(place.tables) == [
        "channel_values",
        "checkpoints",
        "chunks",
        "schema_version",
        "threads",
        "waiting",
        "writes",
    ]


def test_a_filter_across_threads_finds_what_is_rare_and_what_is_common(saver: PostgresSaver, place: Place) -> None:
    for number in range(40):
        put_values(saver, {"n": number}, other_thread(number), user="ann" if number == 7 else "bob", score=number / 2)
    put_values(saver, {"n": -1}, CONFIG, user="ann")
    with open_saver(place.url) as reader:
        assert [each.metadata["user"] for each in reader.list(None, filter={"user": "ann"})] == ["ann", "ann"]
        assert len(list(reader.list(None, filter={"user": "bob"}))) == 39
        assert len(list(reader.list(None, filter={"user": "bob", "score": 3}))) == 1
        assert list(reader.list(None, filter={"user": "bob", "score": 3.5})) == []
        assert [each.thread_id for each in reader.threads(metadata={"user": "ann"})] == ["thread", "other 7"]
