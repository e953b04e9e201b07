"""Published savers as factories for the conformance suite, each with the settings that its documentation recommends.

A factory opens its saver on the storage that an environment variable names, so other processes can open it, too::

    SAVER_STORAGE=/tmp/x.db checkpoints conformance benchmarks.peers:async_sqlite_saver --declare async

A saver's package is imported only when the saver is opened, because peers are not dependencies of this project.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import uuid4

from checkpoint_base import open_saver
from conformance_tests.contract import Capability
from tests.servers import s3
from tests.servers.postgres import postgres
from tests.servers.processes import Server
from tests.servers.redis import flush_redis, redis, redis_stack

STORAGE = "SAVER_STORAGE"
"""The environment variable with the file or URL of the storage that factories open."""

SYNC, ASYNC, PROCESSES, LOOPS = Capability.SYNC, Capability.ASYNC, Capability.PROCESSES, Capability.EVENT_LOOPS

Place: TypeAlias = Callable[[str], AbstractContextManager[str]]
"""Makes an empty storage for a `with` block on the server of this URL, and returns the value for `STORAGE`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A saver and how it is run.

    ``home`` is ``module:class``; without a ``title``, the class gives the saver its name. ``requires`` is what must be
    installed for it, and ``comes_with`` names the package that has it otherwise. ``declares`` has the capabilities that
    its class cannot show. ``open`` is the factory. ``prepare`` does what its documentation demands once for an empty
    storage. ``settings`` says how it is opened.
    """

    home: str
    title: str = ""
    requires: tuple[str, ...] = ()
    comes_with: str = ""
    declares: Collection[Capability]
    open: Callable[[], Any]
    empty: Place
    prepare: Callable[[str], None] | None = None
    server: Callable[[], AbstractContextManager[Server]] | None = None
    settings: str

    @property
    def name(self) -> str:
        return self.title or self.home.partition(":")[2]

    @property
    def factory_name(self) -> str | None:
        """The factory for other processes, if they can open the same storage."""
        return f"{__name__}:{self.open.__name__}" if PROCESSES in self.declares else None

    def capabilities(self) -> frozenset[Capability]:
        """The declared capabilities, and those of the optional methods that the class overrides in all its colours."""
        from langgraph.checkpoint.base import BaseCheckpointSaver

        module, _, name = self.home.partition(":")
        saver = getattr(importlib.import_module(module), name)
        prefixes = [prefix for colour, prefix in ((SYNC, ""), (ASYNC, "a")) if colour in self.declares]
        overridden = {
            capability
            for capability in (Capability.COPY_THREAD, Capability.PRUNE, Capability.DELETE_FOR_RUNS)
            if all(
                getattr(saver, method) is not getattr(BaseCheckpointSaver, method)
                for method in (f"{prefix}{capability}" for prefix in prefixes)
            )
        }
        # The base class itself rebuilds delta channels, with any saver's get_tuple.
        return frozenset({*self.declares, *overridden, Capability.DELTA})


# Storages


@contextmanager
def _in_memory(_: str) -> Iterator[str]:
    yield uuid4().hex


@contextmanager
def _file(_: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="saver-", ignore_cleanup_errors=True) as folder:
        yield str(Path(folder) / "checkpoints.db")


@contextmanager
def _database(server: str) -> Iterator[str]:
    import psycopg

    name = f"saver_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type,unused-ignore]  # no user's text is in it
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type,unused-ignore]


@contextmanager
def _flushed(server: str) -> Iterator[str]:
    flush_redis(server)
    yield server


@contextmanager
def _file_url(_: str) -> Iterator[str]:
    with _file(_) as file:
        yield f"sqlite:///{quote(file)}"


@contextmanager
def _bucket() -> Iterator[Server]:
    """An object store with a bucket, whose credentials are those of this process and of those that it starts."""
    import boto3

    os.environ.update(AWS_ACCESS_KEY_ID=s3.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=s3.SECRET_KEY)
    with s3.radosgw() as server:
        client = boto3.client("s3", endpoint_url=server.url, region_name=s3.REGION)
        client.create_bucket(Bucket=s3.BUCKET)
        client.close()
        yield replace(server, url=s3.s3_url(server.url))


@contextmanager
def _prefix(bucket: str) -> Iterator[str]:
    parts = urlsplit(bucket)
    yield urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{uuid4().hex}"))


def _set_up_postgres(url: str) -> None:
    from langgraph.checkpoint.postgres import PostgresSaver

    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()


def _set_up_redis(url: str) -> None:
    from langgraph.checkpoint.redis import RedisSaver

    with RedisSaver.from_conn_string(url) as saver:
        saver.setup()


# Factories

_OPENING = Lock()


def saver_of_this_project() -> Any:
    return open_saver(os.environ[STORAGE])


def in_memory_saver() -> Any:
    with _OPENING:  # `cache` alone makes several for callers that come at once
        return _one_in_memory_saver(os.environ[STORAGE])


@cache
def _one_in_memory_saver(_: str) -> Any:
    from langgraph.checkpoint.memory import InMemorySaver

    return InMemorySaver()


def sqlite_saver() -> Any:
    from langgraph.checkpoint.sqlite import SqliteSaver

    return SqliteSaver.from_conn_string(os.environ[STORAGE])


def async_sqlite_saver() -> Any:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    return AsyncSqliteSaver.from_conn_string(os.environ[STORAGE])


@contextmanager
def postgres_saver() -> Iterator[Any]:
    from langgraph.checkpoint.postgres import PostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import ConnectionPool

    options: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool[Any](os.environ[STORAGE], max_size=20, kwargs=options, open=True) as pool:
        yield PostgresSaver(pool)


@asynccontextmanager
async def async_postgres_saver() -> AsyncIterator[Any]:
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool

    options: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    async with AsyncConnectionPool[Any](os.environ[STORAGE], max_size=20, kwargs=options, open=False) as pool:
        yield AsyncPostgresSaver(pool)


def valkey_saver() -> Any:
    from langgraph_checkpoint_aws import ValkeySaver

    return ValkeySaver.from_conn_string(os.environ[STORAGE], pool_size=100)


def async_valkey_saver() -> Any:
    from langgraph_checkpoint_aws import AsyncValkeySaver

    return AsyncValkeySaver.from_conn_string(os.environ[STORAGE], pool_size=100)


@contextmanager
def redis_saver() -> Iterator[Any]:
    from langgraph.checkpoint.redis import RedisSaver

    with RedisSaver.from_conn_string(os.environ[STORAGE]) as saver:
        saver.setup()
        yield saver


@asynccontextmanager
async def async_redis_saver() -> AsyncIterator[Any]:
    from langgraph.checkpoint.redis.aio import AsyncRedisSaver

    async with AsyncRedisSaver.from_conn_string(os.environ[STORAGE]) as saver:
        await saver.asetup()
        yield saver


# The field

_SQLITE = ("langgraph-checkpoint-sqlite==3.1.2",)
_POSTGRES = ("langgraph-checkpoint-postgres==3.2.0", "psycopg[binary,pool]>=3.2")
_VALKEY = ("langgraph-checkpoint-aws[valkey]==1.2.6",)
_REDIS = ("langgraph-checkpoint-redis==0.5.2",)


def _quick_postgres() -> AbstractContextManager[Server]:
    return postgres(durable=False)


def _ours(
    title: str,
    home: str,
    empty: Place,
    settings: str,
    server: Callable[[], AbstractContextManager[Server]] | None = None,
) -> Peer:
    return Peer(
        title=title,
        home=home,
        comes_with="this project",
        declares=frozenset(Capability),
        open=saver_of_this_project,
        empty=empty,
        server=server,
        settings=f"`open_saver` with the URL of {settings}",
    )


OURS = (
    _ours("SQLite", "checkpoint_base.sqlite:SQLiteSaver", _file_url, "a file"),
    _ours("PostgreSQL", "checkpoint_postgres:PostgresSaver", _database, "a database", _quick_postgres),
    _ours("Redis", "checkpoint_redis:RedisSaver", _flushed, "a server", redis),
    _ours("S3", "checkpoint_s3:S3Saver", _prefix, "a bucket with a prefix of its own", _bucket),
)

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        *OURS,
        Peer(
            home="langgraph.checkpoint.memory:InMemorySaver",
            comes_with="langgraph-checkpoint",
            declares={SYNC, ASYNC, LOOPS},
            open=in_memory_saver,
            empty=_in_memory,
            settings="one instance that every handle of a case shares",
        ),
        Peer(
            home="langgraph.checkpoint.sqlite:SqliteSaver",
            requires=_SQLITE,
            declares={SYNC, PROCESSES},
            open=sqlite_saver,
            empty=_file,
            settings="`from_conn_string` with a file",
        ),
        Peer(
            home="langgraph.checkpoint.sqlite.aio:AsyncSqliteSaver",
            requires=_SQLITE,
            declares={ASYNC, PROCESSES},
            open=async_sqlite_saver,
            empty=_file,
            settings="`from_conn_string` with a file",
        ),
        Peer(
            home="langgraph.checkpoint.postgres:PostgresSaver",
            requires=_POSTGRES,
            declares={SYNC, PROCESSES},
            open=postgres_saver,
            empty=_database,
            prepare=_set_up_postgres,
            server=_quick_postgres,
            settings="a `ConnectionPool` of at most 20 with `autocommit`, `prepare_threshold=0` and `dict_row`; "
            "`setup()` was called once before each case, except the one that calls it itself",
        ),
        Peer(
            home="langgraph.checkpoint.postgres.aio:AsyncPostgresSaver",
            requires=_POSTGRES,
            declares={ASYNC, PROCESSES},
            open=async_postgres_saver,
            empty=_database,
            prepare=_set_up_postgres,
            server=_quick_postgres,
            settings="an `AsyncConnectionPool` of at most 20 with `autocommit`, `prepare_threshold=0` and `dict_row`; "
            "`setup()` was called once before each case, except the one that calls it itself",
        ),
        Peer(
            home="langgraph_checkpoint_aws:ValkeySaver",
            requires=_VALKEY,
            declares={SYNC, PROCESSES},
            open=valkey_saver,
            empty=_flushed,
            server=redis,
            settings="`from_conn_string` without TTL and with `pool_size=100`; at the default of 10 an eleventh "
            "caller at once gets an error",
        ),
        Peer(
            home="langgraph_checkpoint_aws:AsyncValkeySaver",
            requires=_VALKEY,
            declares={ASYNC, PROCESSES},
            open=async_valkey_saver,
            empty=_flushed,
            server=redis,
            settings="`from_conn_string` without TTL and with `pool_size=100`; at the default of 10 an eleventh "
            "caller at once gets an error",
        ),
        Peer(
            home="langgraph.checkpoint.redis:RedisSaver",
            requires=_REDIS,
            declares={SYNC, PROCESSES},
            open=redis_saver,
            empty=_flushed,
            prepare=_set_up_redis,
            server=redis_stack,
            settings="`from_conn_string` without TTL, and `setup()` at every opening",
        ),
        Peer(
            home="langgraph.checkpoint.redis.aio:AsyncRedisSaver",
            requires=_REDIS,
            declares={ASYNC, PROCESSES},
            open=async_redis_saver,
            empty=_flushed,
            prepare=_set_up_redis,
            server=redis_stack,
            settings="`from_conn_string` without TTL, and `asetup()` at every opening",
        ),
    )
}
