"""PostgreSQL servers for the tests, and schemas of their own on them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import sql

from checkpoint_postgres import PostgresSaver
from tests.faults.proxy import Proxy
from tests.servers.pgbouncer import pgbouncer
from tests.servers.postgres import installations, postgres
from tests.servers.processes import Server, ServerUnavailable

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}

URL_VARIABLE = "CHECKPOINT_TEST_POSTGRES_URL"


@contextmanager
def _server(newest: bool) -> Iterator[Server]:
    """The server that the environment names, or one of this machine, or one in Docker."""
    if URL_VARIABLE in os.environ:
        with psycopg.connect(os.environ[URL_VARIABLE]) as asked:
            version = asked.info.parameter_status("server_version")
        yield Server(os.environ[URL_VARIABLE], f"PostgreSQL {version}", 0)
        return
    try:
        installation = installations()[-1 if newest else 0]
    except ServerUnavailable as unavailable:
        from testcontainers.core.exceptions import ContainerStartException
        from testcontainers.postgres import PostgresContainer

        try:
            container = PostgresContainer(f"postgres:{18 if newest else 15}", driver=None).start()
        except (OSError, RuntimeError, ContainerStartException) as error:
            pytest.fail(f"no PostgreSQL: {URL_VARIABLE} is not set; {unavailable}; and Docker does not answer: {error}")
        try:
            yield Server(container.get_connection_url(), "PostgreSQL in Docker", 0)
        finally:
            container.stop()
        return
    with postgres(durable=False, installation=installation) as started:
        yield started


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The oldest PostgreSQL that can be had."""
    with _server(newest=False) as started:
        yield started


@pytest.fixture(scope="session")
def newest_server() -> Iterator[Server]:
    """The newest PostgreSQL that can be had, which is the same as `server` where there is one only."""
    with _server(newest=True) as started:
        yield started


@pytest.fixture(scope="session")
def bouncer(server: Server) -> Iterator[Server]:
    with pgbouncer(server) as started:
        yield started


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of a test's own: a URL to open a saver on it, and another way to look into it."""

    url: str
    server_url: str
    schema: str
    application: str

    def query(self, statement: str, parameters: Any = None) -> list[Any]:
        """Run a statement that says ``{s}`` for the schema, by a connection that has nothing to do with a saver."""
        with psycopg.connect(self.server_url, autocommit=True) as other:
            text = sql.SQL(statement).format(s=sql.Identifier(self.schema))  # type: ignore[arg-type]
            cursor = other.execute(text, parameters)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, options: str = "") -> Iterator[str]:
        """The URL of another database of the server, which lasts as long as the context."""
        self.query(f'CREATE DATABASE "{self.schema}" {options}')
        try:
            yield urlsplit(self.server_url)._replace(path=f"/{self.schema}").geturl()
        finally:
            self.query(f'DROP DATABASE "{self.schema}" WITH (FORCE)')

    @contextmanager
    def role(self, attributes: str = "") -> Iterator[str]:
        """The URL of this place for a role that is named as the schema. In the end it goes, and the schema with it."""
        self.query(f'CREATE ROLE "{self.schema}" LOGIN {attributes}')
        try:
            yield self.url.replace("postgres@", f"{self.schema}@", 1)
        finally:
            self.query("DROP SCHEMA IF EXISTS {s} CASCADE")
            self.query(f'DROP ROLE "{self.schema}"')

    @contextmanager
    def proxied(self) -> Iterator[tuple[Proxy, str]]:
        """A proxy in front of the server, and the URL of this place through it."""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        with Proxy(parts.hostname, parts.port) as proxy:
            netloc = parts.netloc.replace(f":{parts.port}", f":{proxy.port}")
            yield proxy, parts._replace(netloc=netloc).geturl()

    def sessions(self) -> int:
        """How many connections this test has to the server."""
        return self.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [self.application])[0][0]

    def waiting(self) -> list[int]:
        """The sessions of this test that wait for a lock, by their process ids."""
        return [
            pid
            for (pid,) in self.query(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'",
                [self.application],
            )
        ]

    def terminate(self) -> int:
        """End every connection of this test, as an administrator may; how many there were."""
        return len(
            self.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [self.application]
            )
        )

    @property
    def tables(self) -> list[str]:
        return [name for (name,) in self.query("SELECT tablename FROM pg_tables WHERE schemaname = %s", [self.schema])]


def place_on(server: Server) -> Place:
    name = f"test_{uuid4().hex}"
    mark = "&" if "?" in server.url else "?"
    return Place(f"{server.url}{mark}application_name={name}&schema={name}", server.url, name, name)


@pytest.fixture
def place(server: Server) -> Iterator[Place]:
    place = place_on(server)
    yield place
    # A closed connection takes a moment to be gone from the server's list.
    eventually(lambda: place.sessions() == 0, "connections were left open")
    place.query("DROP SCHEMA IF EXISTS {s} CASCADE")


@pytest.fixture
def saver(place: Place) -> Iterator[PostgresSaver]:
    from checkpoint_base import open_saver

    with open_saver(place.url) as opened:
        assert isinstance(opened, PostgresSaver)
        yield opened


def eventually(is_so: Callable[[], Any], otherwise: str = "") -> None:
    give_up_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_at, otherwise
        time.sleep(0.02)


@pytest.fixture
def put() -> Callable[..., Any]:
    return put_values


def put_values(saver: Any, values: dict[str, Any], config: Any = CONFIG, **metadata: Any) -> Any:
    """Put a checkpoint with these values, all of them new; return its config."""
    checkpoint, versions = checkpoint_of(saver, values)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)


def checkpoint_of(saver: Any, values: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return checkpoint, versions
