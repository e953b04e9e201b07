"""Each backend as a fault sees it: a URL that any process can open, and its server's own view of what is stored.

Everything here but the URL goes through a raw client, so that it tells what is there and not what the adapter says.
"""

from __future__ import annotations

import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import boto3
import psycopg
import redis as redis_py
from psycopg import sql

from checkpoint_base import open_saver
from checkpoint_postgres import connections as postgres_connections
from checkpoint_postgres import punctual
from checkpoint_s3 import connections as s3_connections
from tests.servers.postgres import postgres
from tests.servers.processes import Server
from tests.servers.redis import redis
from tests.servers.s3 import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, radosgw, s3_url


@dataclass(frozen=True, slots=True)
class Cell:
    """One stored value: where it is, for its backend to find it and for people to read, and its bytes."""

    place: tuple[Any, ...]
    content: bytes
    is_text: bool = False
    is_index: bool = False
    """Made from other values, to find them by: damage there may hide them."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.place)


class Backend(ABC):
    """A store for as long as a test lasts, empty at its beginning."""

    name: str
    version: str
    url: str

    server: Server | None = None
    """What it runs on, if it is a process."""

    def __init__(self) -> None:
        with open_saver(self.url):
            pass
        self._made_by_setup = self.counts()

    def impatient(self) -> AbstractContextManager[object]:
        """Within this context, savers that are opened wait only about a second for a server that says nothing."""
        return nullcontext()

    pace = 1
    """How much longer everything takes than on other backends."""

    removers = 4
    """How many processes may be at work at once if any of them removes something."""

    def most(self, number: int) -> int:
        """Return ``number``, or less on a slow backend: how often a test of limited time does something."""
        return -(-number // self.pace)

    def leftovers(self) -> dict[str, int]:
        """Return what is stored in addition to what `setup` creates: a count for each kind that has more."""
        return {
            name: count - self._made_by_setup.get(name, 0)
            for name, count in self.counts().items()
            if count != self._made_by_setup.get(name, 0)
        }

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How much of each kind is stored."""

    @abstractmethod
    def cells(self) -> Sequence[Cell]:
        """Every stored value that holds or describes a checkpoint, a value, a chunk or a write."""

    @abstractmethod
    def overwrite(self, cell: Cell, content: bytes) -> None:
        """Put other bytes into a cell."""

    @abstractmethod
    def remove(self, cell: Cell) -> None:
        """Remove the row, field or object that a cell is in."""

    def connections(self) -> int:
        """How many connections of savers the server has; 0 where there is no server."""
        return 0

    def locks(self) -> int:
        """How many locks or open transactions savers hold on the server."""
        return 0


class ServerBackend(Backend):
    """A store that is reached over the network."""

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        parts = urlsplit(self.url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"{self.url} names no port")
        return parts.hostname, parts.port

    @abstractmethod
    def url_through(self, host: str, port: int) -> str:
        """The URL of the same store by another address, with timeouts that suit a test."""


class SQLiteBackend(Backend):
    name = "sqlite"
    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        super().__init__()

    def counts(self) -> dict[str, int]:
        with closing(sqlite3.connect(self._path)) as raw:
            return {name: raw.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in self._tables(raw)}

    def cells(self) -> Sequence[Cell]:
        found = []
        with closing(sqlite3.connect(self._path)) as raw:
            for table in self._tables(raw):
                keys, others = _columns(raw, table)
                for (*values,) in raw.execute(f'SELECT {", ".join([*keys, *others])} FROM "{table}"'):
                    key, rest = values[: len(keys)], values[len(keys) :]
                    for column, value in zip(others, rest, strict=True):
                        if isinstance(value, (str, bytes)) and column not in _IDENTITIES:
                            place = (table, column, tuple(zip(keys, key, strict=True)))
                            content = value.encode() if isinstance(value, str) else value
                            found.append(Cell(place, content, isinstance(value, str)))
        return found

    def overwrite(self, cell: Cell, content: bytes) -> None:
        table, column, key = cell.place
        where = " AND ".join(f"{name} IS ?" for name, _ in key)
        value = f"CAST(? AS {'TEXT' if cell.is_text else 'BLOB'})"
        with closing(sqlite3.connect(self._path)) as raw, raw:
            raw.execute(f'UPDATE "{table}" SET {column} = {value} WHERE {where}', [content, *(part for _, part in key)])

    def remove(self, cell: Cell) -> None:
        table, _, key = cell.place
        where = " AND ".join(f"{name} IS ?" for name, _ in key)
        with closing(sqlite3.connect(self._path)) as raw, raw:
            raw.execute(f'DELETE FROM "{table}" WHERE {where}', [part for _, part in key])

    @staticmethod
    def _tables(raw: sqlite3.Connection) -> list[str]:
        return [name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]


_IDENTITIES = ("thread_id", "checkpoint_ns", "checkpoint_id")
"""What something is found by: another one is another thing's, and the thing itself is not there."""


def _columns(raw: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """The columns of the primary key, and the others."""
    info = raw.execute(f'PRAGMA table_info("{table}")').fetchall()
    return [row[1] for row in info if row[5]], [row[1] for row in info if not row[5]]


class PostgresBackend(ServerBackend):
    name = "postgres"

    def __init__(self, server: Server, schema: str) -> None:
        self.server = server
        self.version = server.version
        self._schema = schema
        self._options = {"schema": schema, "application_name": schema}
        self.url = _with_query(server.url, self._options)
        super().__init__()

    def counts(self) -> dict[str, int]:
        return {name: self._query("SELECT count(*) FROM {}.{}", [self._schema, name])[0][0] for name in self._tables()}

    def cells(self) -> Sequence[Cell]:
        found = []
        for table in self._tables():
            columns = self._query(
                "SELECT attname, atttypid::regtype::text, attnum = ANY(coalesce(indkey, '')) FROM pg_attribute "
                "LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary "
                "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
                parameters=[f"{self._schema}.{table}"],
            )
            keys = [name for name, _, is_key in columns if is_key]
            for name, kind, is_key in columns:
                if is_key or kind != "bytea":
                    continue
                for *key, value in self._query(
                    "SELECT " + ", ".join(["{}"] * (len(keys) + 1)) + " FROM {}.{}", [*keys, name, self._schema, table]
                ):
                    found.append(Cell((table, name, tuple(zip(keys, key, strict=True))), bytes(value)))
        return found

    def overwrite(self, cell: Cell, content: bytes) -> None:
        table, column, key = cell.place
        names = [name for name, _ in key]
        self._query(
            "UPDATE {}.{} SET {} = %s WHERE " + " AND ".join(["{} = %s"] * len(names)),
            [self._schema, table, column, *names],
            [content, *(part for _, part in key)],
        )

    def remove(self, cell: Cell) -> None:
        table, _, key = cell.place
        names = [name for name, _ in key]
        where = " AND ".join(["{} = %s"] * len(names))
        self._query(f"DELETE FROM {{}}.{{}} WHERE {where}", [self._schema, table, *names], [part for _, part in key])

    def connections(self) -> int:
        return self._count("application_name = %s")

    def locks(self) -> int:
        return self._count("application_name = %s AND state LIKE 'idle in transaction%%'")

    def url_through(self, host: str, port: int) -> str:
        return _with_query(f"postgresql://postgres@{host}:{port}/postgres", {**self._options, "connect_timeout": "2"})

    def url_behind_a_pooler(self, host: str, port: int) -> str:
        """Without the name of an application, by which the pooler's own connections would be counted."""
        return _with_query(
            f"postgresql://postgres@{host}:{port}/postgres", {"schema": self._schema, "prepare": "false"}
        )

    @contextmanager
    def impatient(self) -> Iterator[None]:
        with _changed(punctual, ANSWER_SECONDS=2.0), _changed(postgres_connections, POOL_SECONDS=1.5):
            yield

    def drop(self) -> None:
        self._query("DROP SCHEMA {} CASCADE", [self._schema])

    def _count(self, condition: str) -> int:
        count: int = self._query(f"SELECT count(*) FROM pg_stat_activity WHERE {condition}", (), [self._schema])[0][0]
        return count

    def _tables(self) -> list[str]:
        rows = self._query("SELECT tablename FROM pg_tables WHERE schemaname = %s", (), [self._schema])
        return sorted(name for (name,) in rows)

    def _query(self, statement: str, names: Sequence[str] = (), parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement with ``{}`` for each of the names, on a connection that has nothing to do with a saver."""
        text = sql.SQL(statement).format(*map(sql.Identifier, names)) if names else sql.SQL(statement)
        assert self.server is not None
        with psycopg.connect(self.server.url, autocommit=True) as raw:
            cursor = raw.execute(text, parameters)
            return cursor.fetchall() if cursor.description else []


class RedisBackend(ServerBackend):
    name = "redis"

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.version = server.version
        self._prefix = prefix
        self._options = {"prefix": prefix, "client_name": prefix}
        self.url = _with_query(server.url, self._options)
        super().__init__()

    def counts(self) -> dict[str, int]:
        """What expires by itself, as pieces on their way into a thread do, is not counted."""
        counts: dict[str, int] = {}
        with self._raw() as raw:
            for key in raw.scan_iter(match=f"{self._prefix}*", count=1000):
                if raw.pttl(key) >= 0:
                    continue
                kind = raw.type(key).decode()
                size = {"hash": raw.hlen, "zset": raw.zcard, "list": raw.llen, "set": raw.scard}.get(kind)
                counts[kind] = counts.get(kind, 0) + (size(key) if size else 1)
        return counts

    def cells(self) -> Sequence[Cell]:
        found = []
        with self._raw() as raw:
            for key in raw.scan_iter(match=f"{self._prefix}*", count=1000, _type="hash"):
                found += [
                    Cell((key, name), value, is_index=name[:1] in b"msw") for name, value in raw.hgetall(key).items()
                ]
        return found

    def overwrite(self, cell: Cell, content: bytes) -> None:
        key, name = cell.place
        with self._raw() as raw:
            raw.hset(key, name, content)

    def remove(self, cell: Cell) -> None:
        key, name = cell.place
        with self._raw() as raw:
            raw.hdel(key, name)

    def connections(self) -> int:
        with self._raw() as raw:
            return sum(client["name"] == self._prefix for client in raw.client_list())

    def url_through(self, host: str, port: int) -> str:
        timeouts = {"socket_timeout": "1", "socket_connect_timeout": "1"}
        return _with_query(f"redis://{host}:{port}/0", {**self._options, **timeouts})

    def drop(self) -> None:
        with self._raw() as raw:
            for key in raw.scan_iter(match=f"{self._prefix}*", count=1000):
                raw.unlink(key)

    @contextmanager
    def _raw(self) -> Iterator[Any]:
        assert self.server is not None
        with redis_py.Redis.from_url(self.server.url) as raw:
            yield raw


S3_VARIABLE = "CHECKPOINT_TEST_S3_URL"

TOMBSTONE_BYTES = 64


class S3Backend(ServerBackend):
    name = "s3"
    pace = 4
    removers = 1  # what `grace=0` demands: see `_url`

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.version = server.version
        self._prefix = prefix
        self._raw = raw_s3(server.url)
        self.url = self._url(server.url)
        super().__init__()

    @contextmanager
    def impatient(self) -> Iterator[None]:
        with _changed(s3_connections, CONNECT_SECONDS=1, READ_SECONDS=1):
            yield

    def counts(self) -> dict[str, int]:
        """Without what has nothing of a thread's but its id: its tombstone, and notes on what to look at in a day."""
        counts: dict[str, int] = {}
        for entry in self._entries():
            folder = entry["Key"].split("/")[1]
            if folder != "r" and not (entry["Key"].endswith("/!") and entry["Size"] <= TOMBSTONE_BYTES):
                counts[folder] = counts.get(folder, 0) + 1
        return counts

    def cells(self) -> Sequence[Cell]:
        found = []
        for key in self._keys():
            found.append(Cell((key,), self._raw.get_object(Bucket=BUCKET, Key=key)["Body"].read()))
        return [cell for cell in found if cell.content]

    def overwrite(self, cell: Cell, content: bytes) -> None:
        self._raw.put_object(Bucket=BUCKET, Key=cell.place[0], Body=content)

    def remove(self, cell: Cell) -> None:
        self._raw.delete_object(Bucket=BUCKET, Key=cell.place[0])

    @property
    def address(self) -> tuple[str, int]:
        assert self.server is not None
        parts = urlsplit(self.server.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def url_through(self, host: str, port: int) -> str:
        return self._url(f"http://{host}:{port}")

    def drop(self) -> None:
        for key in self._keys():
            self._raw.delete_object(Bucket=BUCKET, Key=key)
        self._raw.close()

    def _url(self, endpoint: str) -> str:
        # Nothing is kept for readers that are still on their way: a test looks when it has its answer. Nor for another
        # removal that is: a sweep might take its note for one that is done with, and what it hides would stay.
        return _with_query(s3_url(endpoint, BUCKET, self._prefix), {"grace": "0"})

    def _keys(self) -> list[str]:
        return [entry["Key"] for entry in self._entries()]

    def _entries(self) -> list[Any]:
        pages = self._raw.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self._prefix}/")
        return [entry for page in pages for entry in page.get("Contents", ())]


_SESSION = boto3.session.Session(region_name=REGION)
"""It remembers the description of S3, which takes 0.1 s to read."""


def raw_s3(endpoint: str) -> Any:
    return _SESSION.client("s3", endpoint_url=endpoint)


@contextmanager
def _changed(module: Any, **values: Any) -> Iterator[None]:
    """Other values for a module's constants."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


@contextmanager
def _in_environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _with_query(url: str, options: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(options)}"


class Servers(AbstractContextManager["Servers"]):
    """Starts each server when it is first needed, and gives out empty stores on it."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._servers: dict[str, Server] = {}
        if S3_VARIABLE not in os.environ:
            # boto3's own place for credentials, here and in every process that is started from now on.
            given = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
            self._running.enter_context(_in_environment(given))

    @contextmanager
    def backend(self, name: str) -> Iterator[Backend]:
        """An empty store of the backend."""
        with BACKENDS[name](self) as opened:
            yield opened

    @property
    def started(self) -> Mapping[str, Server]:
        """The servers so far, by backend."""
        return self._servers

    def server(self, name: str, variable: str, start: Callable[[], AbstractContextManager[Server]]) -> Server:
        """The server that an environment variable names, or one that is started for this session."""
        if name not in self._servers:
            given = os.environ.get(variable)
            self._servers[name] = Server(given, name, 0) if given else self._running.enter_context(start())
        return self._servers[name]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


@contextmanager
def _sqlite(_: Servers) -> Iterator[Backend]:
    with TemporaryDirectory(prefix="faults-") as folder:
        yield SQLiteBackend(Path(folder) / "checkpoints.db")


@contextmanager
def _postgres(servers: Servers) -> Iterator[Backend]:
    server = servers.server("postgres", "CHECKPOINT_TEST_POSTGRES_URL", lambda: postgres(durable=False))
    opened = PostgresBackend(server, f"faults_{uuid4().hex}")
    yield opened
    opened.drop()


@contextmanager
def _redis(servers: Servers) -> Iterator[Backend]:
    opened = RedisBackend(servers.server("redis", "CHECKPOINT_TEST_REDIS_URL", redis), f"faults-{uuid4().hex}")
    yield opened
    opened.drop()


@contextmanager
def _radosgw_with_bucket() -> Iterator[Server]:
    with radosgw() as server:
        client = raw_s3(server.url)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield server


@contextmanager
def _s3(servers: Servers) -> Iterator[Backend]:
    opened = S3Backend(servers.server("s3", S3_VARIABLE, _radosgw_with_bucket), f"faults-{uuid4().hex}")
    yield opened
    opened.drop()


BACKENDS: dict[str, Callable[[Servers], AbstractContextManager[Backend]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "redis": _redis,
    "s3": _s3,
}
