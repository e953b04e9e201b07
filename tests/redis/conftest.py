"""Redis and Valkey servers for a test session; each test has a prefix of its own."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis as redis_py
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import CheckpointSaver
from checkpoint_redis import RedisSaver
from tests.servers.processes import Server
from tests.servers.redis import Watched, installations, redis, redis_cluster, redis_sentinel

REDIS_URL = "CHECKPOINT_TEST_REDIS_URL"

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis that tests share."""
    if url := os.environ.get(REDIS_URL):
        yield url
        return
    with redis() as server:
        yield server.url


@pytest.fixture(scope="session")
def cluster_server() -> Iterator[Server]:
    """A cluster of three masters."""
    with redis_cluster() as server:
        yield server


@pytest.fixture(scope="session")
def watched_server() -> Iterator[Watched]:
    """A master and a replica behind a Sentinel, which no test makes fail over."""
    with redis_sentinel(patience=60) as watched:
        yield watched


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    with redis(installation=installations("Valkey")[-1]) as server:
        yield server


@pytest.fixture(scope="session")
def oldest_server() -> Iterator[Server]:
    """The oldest Redis that is installed."""
    with redis(installation=installations("Redis")[0]) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


@pytest.fixture
def raw(redis_url: str) -> Iterator[Any]:
    """A client of the shared Redis that has nothing to do with a saver."""
    with redis_py.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def keys(raw: Any, prefix: str) -> Callable[[], set[bytes]]:
    """What is stored below the prefix, but for what is there from set-up on."""

    def found() -> set[bytes]:
        everything = set(raw.scan_iter(match=f"{prefix}*", count=10_000))
        empty = {key for key in everything if key.endswith(b":index") and raw.zrange(key, 0, -1) == [b""]}
        return everything - empty - {f"{prefix}:layout".encode()}

    return found


def eventually(is_so: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def config_of(thread_id: str, checkpoint_id: str | None = None) -> Any:
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    if checkpoint_id:
        config["configurable"]["checkpoint_id"] = checkpoint_id
    return config


def of_one_bucket(saver: RedisSaver, most: int) -> tuple[str, list[str]]:
    """The key of a bucket's index, and the ids of so many threads of that bucket, all of one length."""
    store: Any = saver.store
    index = store._keys("t000000")[1]
    ids = map("t{:06}".format, count())
    return index, [*islice((id_ for id_ in ids if store._keys(id_)[1] == index), most)]


def put(saver: CheckpointSaver, values: dict[str, Any], config: Any = CONFIG, metadata: Any = None) -> Any:
    """Store a checkpoint with these values; returns its config."""
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None, None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.put(config, checkpoint, metadata or {"source": "loop", "step": 1}, versions)


async def aput(saver: CheckpointSaver, values: dict[str, Any], config: Any = CONFIG) -> Any:
    """`put`, asynchronously."""
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None, None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return await saver.aput(config, checkpoint, {"source": "loop", "step": 1}, versions)


def values_of(saver: CheckpointSaver, config: Any = CONFIG) -> Any:
    """The values of a thread's latest checkpoint; None when there is none."""
    found = saver.get_tuple(config)
    return found and found.checkpoint["channel_values"]


@dataclass(frozen=True, slots=True)
class Command:
    """What a server carried out, for a client or for a script."""

    words: tuple[bytes, ...]

    @property
    def name(self) -> str:
        return self.words[0].decode().upper()

    @property
    def keys(self) -> tuple[bytes, ...]:
        if self.name in ("EVALSHA", "EVAL"):
            return self.words[3 : 3 + int(self.words[2])]
        return self.words[1 : 3 if self.name == "RENAME" else 2]

    @property
    def size(self) -> int:
        return sum(map(len, self.words))


@dataclass(slots=True)
class Monitored:
    """What a server did meanwhile, of anybody who names the prefix."""

    requests: list[Command] = field(default_factory=list)
    """What clients asked for."""
    inside: list[Command] = field(default_factory=list)
    """What scripts did."""


@contextmanager
def monitored(url: str, prefix: str) -> Iterator[Monitored]:
    """Let the server itself tell what it carries out (MONITOR); complete when the block has ended."""
    parts = urlsplit(url)
    address, seen = (parts.hostname, parts.port or 6379), Monitored()
    ending = uuid4().hex.encode()
    with socket.create_connection(address, timeout=30) as watching, watching.makefile("rb") as lines:
        watching.sendall(b"MONITOR\r\n")
        assert lines.readline() == b"+OK\r\n"
        yield seen
        with socket.create_connection(address, timeout=30) as other:
            other.sendall(b"ECHO %b\r\n" % ending)
            other.recv(100)
        while ending not in (line := lines.readline()):
            by, _, said = line.partition(b"] ")
            quoted = re.findall(rb'"([^"\\]*(?:\\.[^"\\]*)*)"', said)
            words = tuple(word.decode("unicode_escape").encode("latin-1") for word in quoted)
            if prefix.encode() in said:
                (seen.inside if by.endswith(b"lua") else seen.requests).append(Command(words))


@pytest.fixture
def saver(redis_url: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver(redis_url, prefix=prefix) as opened:
        yield opened


@pytest.fixture
def reader(redis_url: str, prefix: str) -> Iterator[RedisSaver]:
    with RedisSaver(redis_url, prefix=prefix) as opened:
        yield opened
