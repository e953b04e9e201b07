"""The savers that are compared, their servers, and the floors below them."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks.peers import PEERS, STORAGE
from benchmarks.sizes import objects_of_s3, rows_of_postgres, rows_of_redis
from checkpoint_base import open_saver
from tests.servers.postgres import postgres
from tests.servers.processes import Server
from tests.servers.redis import redis, redis_stack
from tests.servers.s3 import ACCESS_KEY, REGION, SECRET_KEY, radosgw, s3_url

OURS = "checkpoint-backends"
SERIALIZING = "serializing alone"
BARE = "bare write"

POOL = 16
"""Connections in our savers' pools; the peers' settings allow 20 or 100."""

Write: TypeAlias = Callable[[int], None]
"""Durably stores this many new bytes under a new key, and does nothing else."""


@dataclass(frozen=True, slots=True)
class Storage:
    """An empty storage for one side: its URL, its server's port if it has one, and how many bytes it holds."""

    url: str
    port: int | None
    at_rest: Callable[[], int]
    colon: str = ":"

    def through(self, port: int) -> str:
        """The URL of the same storage through a proxy on this port."""
        return self.url.replace(f"{self.colon}{self.port}", f"{self.colon}{port}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One saver: how to open it on a storage's URL in either colour, with which settings, and what it requires."""

    name: str
    open: Callable[[str], AbstractContextManager[Any]]
    aopen: Callable[[str], AbstractAsyncContextManager[Any]] | None
    settings: str
    requires: Sequence[str] = ()
    longest_chat: int = 1000

    @property
    def packages(self) -> Sequence[str]:
        """The names of the distributions that it requires."""
        return [re.split(r"[\[=<>]", requirement)[0] for requirement in self.requires]

    @property
    def is_ours(self) -> bool:
        return self.name == OURS


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A server and the savers on it, ours first.

    ``place`` makes the storage of the side with the given number. ``bare`` opens the floor of a write, which is called
    ``bare_name``. ``inbox_threads`` is the number of threads in the inbox workload; with 0, that workload is not run.
    """

    name: str
    sides: Sequence[Side]
    server: Callable[[], AbstractContextManager[Server]]
    place: Callable[[str, int], AbstractContextManager[Storage]]
    bare: Callable[[str], AbstractContextManager[Write]]
    bare_name: str
    settings: str
    is_on_disk: bool = False
    inbox_threads: int = 100_000

    @property
    def peers(self) -> Sequence[Side]:
        return [side for side in self.sides if not side.is_ours]


# Opening savers


def _ours(options: Mapping[str, Any], settings: str) -> Side:
    return Side(
        name=OURS,
        open=lambda url: open_saver(url, **options),
        aopen=lambda url: open_saver(url, **options),
        settings=settings,
    )


def _peer(name: str, saver: str, asaver: str, **more: Any) -> Side:
    """A peer, opened by `benchmarks.peers` on the storage that an environment variable names."""

    @contextmanager
    def opened(url: str) -> Iterator[Any]:
        os.environ[STORAGE] = url
        with PEERS[saver].open() as found:
            yield found

    @asynccontextmanager
    async def aopened(url: str) -> AsyncIterator[Any]:
        os.environ[STORAGE] = url
        async with PEERS[asaver].open() as found:
            yield found

    peer = PEERS[saver]
    return Side(name=name, open=opened, aopen=aopened, settings=peer.settings, requires=peer.requires, **more)


# SQLite


@contextmanager
def _no_server() -> Iterator[Server]:
    yield Server("", f"SQLite {sqlite3.sqlite_version}", 0)


@contextmanager
def _file(_: str, number: int) -> Iterator[Storage]:
    with tempfile.TemporaryDirectory(prefix=f"side-{number}-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "checkpoints.db"

        def size() -> int:
            with sqlite3.connect(file) as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            db.close()
            return file.stat().st_size

        yield Storage(str(file), None, size)


@contextmanager
def _insert_into_file(_: str) -> Iterator[Write]:
    with tempfile.TemporaryDirectory(prefix="bare-", ignore_cleanup_errors=True) as folder:
        db = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")

        def write(size: int) -> None:
            db.execute("INSERT INTO bare (body) VALUES (?)", (os.urandom(size),))

        # A commit that lengthens the log takes twice as long. Those of the savers, which have stored a chat, are past
        # that: SQLite empties a log of 1,000 pages and goes on at its beginning.
        for size in [100] * 1100:
            write(size)
        yield write
        db.close()


# PostgreSQL


@contextmanager
def _database(server: str, number: int) -> Iterator[Storage]:
    name = f"side_{number}_{uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name}")
    url = f"{server.rpartition('/')[0]}/{name}"
    try:
        if number:
            _set_up_peer(url)
        yield Storage(url, _port(url), lambda: rows_of_postgres(url))
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(statement)  # no user's text is in it


def _set_up_peer(url: str) -> None:
    from langgraph.checkpoint.postgres import PostgresSaver

    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()


@contextmanager
def _insert_into_table(server: str) -> Iterator[Write]:
    import psycopg

    with psycopg.connect(server, autocommit=True, prepare_threshold=0) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bare (id bigserial PRIMARY KEY, body bytea NOT NULL)")
        connection.execute("ALTER TABLE bare ALTER body SET STORAGE EXTERNAL")

        def write(size: int) -> None:
            connection.execute("INSERT INTO bare (body) VALUES (%b)", (os.urandom(size),), prepare=True)

        yield write


# Redis


@contextmanager
def _redis_database(server: str, number: int) -> Iterator[Storage]:
    url = f"{server.rpartition('/')[0]}/{number}"
    yield Storage(url, _port(url), lambda: rows_of_redis(url))


@contextmanager
def _stack_database(server: str, number: int) -> Iterator[Storage]:
    # RediSearch indexes only database 0, so the peer gets that one.
    with _redis_database(server, 0 if number else 1) as storage:
        if number:
            from langgraph.checkpoint.redis import RedisSaver

            with RedisSaver.from_conn_string(storage.url) as saver:
                saver.setup()
        yield storage


@contextmanager
def _set(server: str) -> Iterator[Write]:
    from redis import Redis

    client, keys = Redis.from_url(f"{server.rpartition('/')[0]}/9"), []

    def write(size: int) -> None:
        keys.append(uuid4().bytes)
        client.set(keys[-1], os.urandom(size))

    try:
        yield write
    finally:
        # Not FLUSHDB, which drops the indexes of RediSearch in every database.
        if keys:
            client.delete(*keys)
        client.close()


# S3


def _s3_client(endpoint: str) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint, region_name=REGION)


@contextmanager
def _object_store() -> Iterator[Server]:
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)
    with radosgw() as server:
        yield server


@contextmanager
def _bucket(endpoint: str, number: int) -> Iterator[Storage]:
    bucket = f"side-{number}-{uuid4().hex[:12]}"
    client = _s3_client(endpoint)
    client.create_bucket(Bucket=bucket)
    try:
        url = s3_url(endpoint, bucket)
        # The endpoint is in the URL's query, where its colons are escaped.
        yield Storage(url, _port(endpoint), lambda: objects_of_s3(client, bucket), colon="%3A")
    finally:
        client.close()


@contextmanager
def _s3_peer(url: str) -> Iterator[Any]:
    """The peer, with a serializer that has the two methods that the peer calls and current versions lack."""
    from langgraph_checkpoint_s3 import S3CheckpointSaver

    parts = urlsplit(url)
    client = _s3_client(parse_qs(parts.query)["endpoint_url"][0])
    try:
        yield S3CheckpointSaver(parts.netloc, s3_client=client, serde=_WithRemovedMethods())
    finally:
        client.close()


class _WithRemovedMethods(JsonPlusSerializer):
    def dumps(self, value: Any) -> bytes:
        return self.dumps_typed(value)[1]

    def loads(self, data: bytes) -> Any:
        return self.loads_typed(("msgpack", data))


@contextmanager
def _put_object(endpoint: str) -> Iterator[Write]:
    client, bucket = _s3_client(endpoint), f"bare-{uuid4().hex[:12]}"
    client.create_bucket(Bucket=bucket)
    try:
        yield lambda size: client.put_object(Bucket=bucket, Key=uuid4().hex, Body=os.urandom(size)) and None
    finally:
        client.close()


def _port(url: str) -> int:
    found = re.search(r":(\d+)\b", url)
    assert found is not None  # noqa: S101  # the servers are ours
    return int(found[1])


# Floors


class Serializing:
    """Only serialises the values of a call, or loads those that it returns, with LangGraph's own serializer."""

    def __init__(self) -> None:
        self._serde = JsonPlusSerializer()
        self._state: list[tuple[str, bytes]] = []

    def prepare(self, values: Mapping[str, Any]) -> None:
        """Set the state that `get_tuple` rebuilds."""
        self._state = [self._serde.dumps_typed(value) for value in values.values()]

    def put(self, _: Any, checkpoint: Any, __: Any, new_versions: Any) -> None:
        for channel in new_versions:
            if channel in checkpoint["channel_values"]:
                self._serde.dumps_typed(checkpoint["channel_values"][channel])

    def put_writes(self, _: Any, writes: Any, __: str, ___: str) -> None:
        for _channel, value in writes:
            self._serde.dumps_typed(value)

    def get_tuple(self, _: Any) -> None:
        for dumped in self._state:
            self._serde.loads_typed(dumped)


class Bare:
    """Only writes as many bytes as are new to our saver in the same call."""

    def __init__(self, write: Write, sizes: Mapping[str, int]) -> None:
        self._write = write
        self._sizes = sizes

    def put(self, *_: Any) -> None:
        self._write(self._sizes["put"])

    def put_writes(self, *_: Any) -> None:
        self._write(self._sizes["put_writes"])


# The field

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            name="SQLite",
            sides=(
                Side(
                    name=OURS,
                    open=lambda path: open_saver(f"sqlite:///{path}"),
                    aopen=lambda path: open_saver(f"sqlite:///{path}"),
                    settings="`open_saver` with the URL of a file; WAL, `synchronous=FULL`",
                ),
                _peer("langgraph-checkpoint-sqlite", "SqliteSaver", "AsyncSqliteSaver"),
            ),
            server=_no_server,
            place=_file,
            bare=_insert_into_file,
            bare_name="one INSERT with commit",
            is_on_disk=True,
            settings="files on the machine's disk; both sides use WAL and SQLite's `synchronous=FULL`",
        ),
        Backend(
            name="PostgreSQL",
            sides=(
                _ours({"max_size": POOL}, f"`open_saver` with a pool of {POOL}"),
                _peer("langgraph-checkpoint-postgres", "PostgresSaver", "AsyncPostgresSaver"),
            ),
            server=postgres,
            place=_database,
            bare=_insert_into_table,
            bare_name="one INSERT with commit",
            is_on_disk=True,
            settings="its own defaults: `fsync` and `synchronous_commit` on; a database for each side",
        ),
        Backend(
            name="Redis",
            sides=(
                _ours({}, "`open_saver` with its defaults"),
                _peer("ValkeySaver", "ValkeySaver", "AsyncValkeySaver"),
            ),
            server=redis,
            place=_redis_database,
            bare=_set,
            bare_name="one SET",
            settings="in memory, without persistence; a database number for each side",
        ),
        Backend(
            name="Redis with modules",
            sides=(
                _ours({}, "`open_saver` with its defaults"),
                _peer("langgraph-checkpoint-redis", "RedisSaver", "AsyncRedisSaver", longest_chat=400),
            ),
            server=redis_stack,
            place=_stack_database,
            bare=_set,
            bare_name="one SET",
            inbox_threads=0,
            settings="Redis Stack, in memory, without persistence; a database number for each side",
        ),
        Backend(
            name="S3",
            sides=(
                replace(_ours({}, "`open_saver` with its defaults"), longest_chat=400),
                Side(
                    name="langgraph-checkpoint-s3",
                    open=_s3_peer,
                    aopen=None,
                    requires=("langgraph-checkpoint-s3==0.1.3",),
                    settings="one boto3 client; its serializer was given back the methods `dumps` and `loads`, without "
                    "which it does not run on the current langgraph-checkpoint",
                    longest_chat=100,
                ),
            ),
            server=_object_store,
            place=_bucket,
            bare=_put_object,
            bare_name="one PUT",
            inbox_threads=2000,
            settings="Ceph's radosgw with its data in memory; a bucket for each side",
        ),
    )
}
