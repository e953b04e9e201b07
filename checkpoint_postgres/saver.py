"""The saver on PostgreSQL, and its URL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Self, Unpack

from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.saver import CheckpointSaver, SaverOptions
from checkpoint_base.urls import OptionReader, number, switch, take_options, text
from checkpoint_postgres.connections import Connections, GivenConnection, GivenPool, OwnPools
from checkpoint_postgres.schema import Schema
from checkpoint_postgres.store import PostgresStore
from checkpoint_postgres.transport import PostgresTransport

DEFAULT_SCHEMA = "checkpoint_backends"

_SCHEMES = ("postgresql://", "postgres://")

_URL_OPTIONS: Mapping[str, OptionReader] = {
    "schema": text,
    "prepare": switch,
    "min_size": partial(number, least=0),
    "max_size": number,
}


class PostgresSaver(CheckpointSaver):
    """A `CheckpointSaver` in one schema of a PostgreSQL database, for any number of processes.

    From a connection string, the saver makes a pool for sync callers and one for each event loop, when first needed. A
    pool or connection of yours serves callers of its own kind (sync or async) only, and stays open. It may have
    autocommit on or off: every call commits what it stored. A lost connection of yours is not replaced.

    Args:
        conn: a connection string as libpq takes it (URL or keywords), or a pool or connection of psycopg. Our own
            options in a URL, such as ``schema``, are read by `from_conn_string` and `open_saver` only.
        schema: the schema of the tables; `setup` creates it if it is missing.
        prepare: False behind a pooler that does not keep track of prepared statements.
        min_size: connections that each of the saver's pools keeps open; 1 if left out.
        max_size: the most connections that each of the saver's pools opens; 10 if left out.
        options: those of `CheckpointSaver`.
    """

    def __init__(
        self,
        conn: str
        | ConnectionPool[Connection[Any]]
        | AsyncConnectionPool[AsyncConnection[Any]]
        | Connection[Any]
        | AsyncConnection[Any],
        *,
        schema: str = DEFAULT_SCHEMA,
        prepare: bool = True,
        min_size: int | None = None,
        max_size: int | None = None,
        **options: Unpack[SaverOptions],
    ) -> None:
        connections: Connections
        if isinstance(conn, str):
            most = 10 if max_size is None else max_size
            connections = OwnPools(conn, min_size=min(1, most) if min_size is None else min_size, max_size=most)
        elif min_size is not None or max_size is not None:
            raise UnsupportedOperation(
                "min_size and max_size are for pools that the saver makes from a connection string"
            )
        elif isinstance(conn, (ConnectionPool, AsyncConnectionPool)):
            connections = GivenPool(conn)
        elif isinstance(conn, (Connection, AsyncConnection)):
            connections = GivenConnection(conn)
        else:
            raise UnsupportedOperation(
                "a PostgresSaver is made from a connection string, or from a pool or connection of psycopg, not "
                f"{type(conn).__name__}"
            )
        super().__init__(PostgresStore(PostgresTransport(connections, prepare=prepare), Schema(schema)), **options)

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> Self:
        """Return a saver for ``with`` or ``async with``, which set it up and close it.

        Args:
            conn_string: ``postgresql://user:password@host:port/database?schema=…&max_size=…``. ``schema``, ``prepare``,
                ``min_size``, ``max_size`` and the options of every saver are arguments of `PostgresSaver`; all else in
                the query is libpq's: ``sslmode``, ``connect_timeout``, ``options`` and so on. Or keywords of libpq,
                which are passed on as they are.
            options: arguments of `PostgresSaver`.
        """
        conninfo = conn_string
        if isinstance(conn_string, str) and conn_string.startswith(_SCHEMES):
            conninfo, options = take_options(conn_string, _URL_OPTIONS, options)
        return cls(conninfo, **options)


class AsyncPostgresSaver(PostgresSaver):
    """A `PostgresSaver` whose ``setup`` is awaited, as that of LangGraph's class of this name is."""

    async def setup(self) -> None:  # type: ignore[override]  # that is what this class is for
        """`CheckpointSaver.asetup`."""
        await self.asetup()
