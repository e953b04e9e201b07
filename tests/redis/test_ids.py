"""Ids with anything in them keep threads apart on Redis, where keys have patterns, braces and separators."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from redis.crc import key_slot

from checkpoint_redis import RedisSaver
from tests.redis.conftest import aput, config_of, put, values_of
from tests.servers.processes import Server

HOSTILE = [
    "*", "?", "[a-z]", "t*", "thread", "thread:", ":thread", "thread:thread", "index", "layout", "copy:thread",
    "{0}", "{1}", "{}", "}{", "a{b}c", "{", "checkpoints:{0}:index", "\\", "\\*", "a\\0b", "%00", "a b", " ", "\n",
    "\r\nDEL x\r\n", "ü", "u\u0308", "日本", "🧵", "\x01", "\x7f", "'; return 1 --", '"', "$1", "42", "-1", "true",
]  # fmt: skip


@pytest.fixture(params=["redis", "cluster"])
def saver(request: pytest.FixtureRequest, prefix: str) -> Iterator[RedisSaver]:
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    else:
        server: Server = request.getfixturevalue("cluster_server")
        url = server.url
    with RedisSaver(url, prefix=prefix) as opened:
        yield opened


def test_no_two_threads_meet_whatever_their_ids_are(saver: RedisSaver) -> None:
    for id_ in HOSTILE:
        put(saver, {"id": id_, "long": [id_ * 300] * 9}, config_of(id_))
    assert {found.thread_id for found in saver.threads()} == {*HOSTILE}
    for id_ in HOSTILE:
        assert values_of(saver, config_of(id_)) == {"id": id_, "long": [id_ * 300] * 9}
        assert len(list(saver.list(config_of(id_)))) == 1
    left = set(HOSTILE)
    for id_ in HOSTILE:
        saver.delete_thread(id_)
        left.remove(id_)
        assert {found.thread_id for found in saver.threads()} == left


def test_deleting_a_thread_called_star_deletes_that_thread(saver: RedisSaver) -> None:
    for id_ in ("*", "a", "**"):
        put(saver, {"id": id_}, config_of(id_))
    saver.delete_thread("*")
    assert values_of(saver, config_of("*")) is None
    assert values_of(saver, config_of("a")) == {"id": "a"}
    assert sorted(found.thread_id for found in saver.threads()) == ["**", "a"]


def test_no_two_namespaces_checkpoints_tasks_and_channels_meet(saver: RedisSaver) -> None:
    names = ["a", "a:b", "a|b", "b", "ab", "*", "{x}"]
    for ns in names:
        for id_ in names:
            config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ns, "checkpoint_id": id_}}
            saver.put_writes(config, [(channel, f"{ns} {id_} {channel}") for channel in names], f"task {id_}")
            checkpoint: Any = {"v": 4, "id": id_, "ts": "", "versions_seen": {}}
            checkpoint["channel_values"] = {channel: f"{ns} {id_} {channel}" for channel in names}
            checkpoint["channel_versions"] = {channel: f"{id_}.{channel}" for channel in names}
            config["configurable"].pop("checkpoint_id")
            saver.put(config, checkpoint, {"source": "loop", "step": 1}, checkpoint["channel_versions"])
    for ns in names:
        for id_ in names:
            config = {"configurable": {"thread_id": "t", "checkpoint_ns": ns, "checkpoint_id": id_}}
            found = saver.get_tuple(config)
            assert found is not None
            assert found.checkpoint["channel_values"] == {channel: f"{ns} {id_} {channel}" for channel in names}
            expected = [(f"task {id_}", channel, f"{ns} {id_} {channel}") for channel in names]
            assert found.pending_writes == expected


class Name(str, Enum):  # noqa: UP042  # a StrEnum is formatted as its value, and this as its name
    PART = "part"


def test_a_member_of_an_enum_is_the_text_that_it_is_equal_to(saver: RedisSaver) -> None:
    put(saver, {Name.PART: 1}, {"configurable": {"thread_id": Name.PART, "checkpoint_ns": Name.PART}})
    found = saver.get_tuple({"configurable": {"thread_id": "part", "checkpoint_ns": "part"}})
    assert found is not None
    assert found.checkpoint["channel_values"] == {"part": 1}


def test_all_keys_of_a_thread_are_in_the_slot_of_its_bucket(saver: RedisSaver) -> None:
    slots = set()
    for id_ in HOSTILE:
        thread, index = saver.store._keys(id_)  # type: ignore[attr-defined]
        assert key_slot(thread.encode()) == key_slot(index.encode())
        slots.add(key_slot(index.encode()))
    assert len(slots) > 10


def test_async_calls_keep_them_apart_too(redis_url: str, prefix: str) -> None:
    async def act() -> None:
        async with RedisSaver(redis_url, prefix=prefix) as opened:
            for id_ in HOSTILE:
                await aput(opened, {"id": id_}, config_of(id_))
            await opened.adelete_thread("*")
            assert {found.thread_id async for found in opened.athreads()} == {*HOSTILE} - {"*"}

    asyncio.run(act())
