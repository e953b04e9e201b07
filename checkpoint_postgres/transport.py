"""Statements and transactions, carried out on connections of psycopg."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import psycopg
from psycopg import AsyncCursor, Cursor
from psycopg.adapt import AdaptersMap
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_postgres.arrays import ADAPTERS
from checkpoint_postgres.connections import AnyAsyncConnection, AnyConnection, Connections
from checkpoint_postgres.errors import translated
from checkpoint_postgres.punctual import AsyncPunctual, Punctual

Rows: TypeAlias = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Statement:
    """A request: one statement in a transaction of its own. Its response is its rows.

    Without parameters, it may be a script of several statements that return nothing. ``varies``: the best plan
    depends on the parameters, so the statement is never prepared. ``takes_long``: the server may need minutes, because
    the work grows with the data.
    """

    sql: bytes
    parameters: Sequence[Any] | Mapping[str, Any] = ()
    varies: bool = False
    takes_long: bool = False


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request: statements that depend on each other's rows, all or nothing, on one connection.

    ``work`` yields each `Statement`, is sent its rows, and returns the response.
    """

    work: Callable[[], Generator[Statement, Rows, Any]]
    takes_long: ClassVar[bool] = True


class PostgresTransport:
    """Executes `Statement` and `Transaction` requests on a database.

    A statement is one message and commits by itself, so a connection without autocommit has it switched on while we use
    it. Only psycopg knows of that setting, so switching costs no message; psycopg's own BEGIN and COMMIT would each be
    one, even in a pipeline.

    Args:
        connections: where connections come from; owned by the transport.
        prepare: let psycopg prepare statements that a connection has executed several times. Use False behind a pooler
            that does not keep track of prepared statements, such as PgBouncer before 1.21 in transaction mode.
    """

    def __init__(self, connections: Connections, *, prepare: bool) -> None:
        self._connections = connections
        self._prepare = None if prepare else False  # None leaves it to psycopg

    def execute(self, request: Statement | Transaction) -> Any:
        try:
            with self._connections.lent() as connection:
                _make_ready(connection, request)
                if isinstance(request, Transaction):
                    return self._transact(connection, request)
                return self._fetch(connection, request)
        except (psycopg.Error, OSError) as error:
            raise translated(error) from error

    async def aexecute(self, request: Statement | Transaction) -> Any:
        try:
            async with self._connections.alent() as connection:
                _make_ready(connection, request)
                if isinstance(request, Transaction):
                    return await self._atransact(connection, request)
                return await self._afetch(connection, request)
        except (psycopg.Error, OSError) as error:
            raise translated(error) from error

    def close(self) -> None:
        self._connections.close()

    async def aclose(self) -> None:
        await self._connections.aclose()

    def _fetch(self, connection: AnyConnection, request: Statement) -> Rows:
        if connection.autocommit:
            return self._rows(connection, request)
        try:
            connection.autocommit = True
            return self._rows(connection, request)
        finally:
            if _is_idle(connection):
                connection.autocommit = False

    def _transact(self, connection: AnyConnection, request: Transaction) -> Any:
        with connection.transaction():
            work = request.work()
            rows: Any = None
            while True:
                try:
                    statement = work.send(rows)
                except StopIteration as done:
                    return done.value
                rows = self._rows(connection, statement)

    def _rows(self, connection: AnyConnection, request: Statement) -> Rows:
        cursor = _Cursor(connection, row_factory=tuple_row)
        if request.parameters:
            prepare = False if request.varies else self._prepare
            cursor.execute(request.sql, request.parameters, prepare=prepare, binary=True)
        else:
            cursor.execute(request.sql)
        return cursor.fetchall() if cursor.rownumber is not None else []

    async def _afetch(self, connection: AnyAsyncConnection, request: Statement) -> Rows:
        if connection.autocommit:
            return await self._arows(connection, request)
        try:
            await connection.set_autocommit(True)
            return await self._arows(connection, request)
        finally:
            if _is_idle(connection):
                await connection.set_autocommit(False)

    async def _atransact(self, connection: AnyAsyncConnection, request: Transaction) -> Any:
        async with connection.transaction():
            work = request.work()
            rows: Any = None
            while True:
                try:
                    statement = work.send(rows)
                except StopIteration as done:
                    return done.value
                rows = await self._arows(connection, statement)

    async def _arows(self, connection: AnyAsyncConnection, request: Statement) -> Rows:
        cursor = _AsyncCursor(connection, row_factory=tuple_row)
        if request.parameters:
            prepare = False if request.varies else self._prepare
            await cursor.execute(request.sql, request.parameters, prepare=prepare, binary=True)
        else:
            await cursor.execute(request.sql)
        return await cursor.fetchall() if cursor.rownumber is not None else []


class _OwnAdapters:
    """A cursor that sends and reads values in one way, whatever the user of a given connection has registered there."""

    __slots__ = ()

    @property
    def adapters(self) -> AdaptersMap:
        return ADAPTERS


class _Cursor(_OwnAdapters, Cursor[tuple[Any, ...]]):
    __slots__ = ()


class _AsyncCursor(_OwnAdapters, AsyncCursor[tuple[Any, ...]]):
    __slots__ = ()


def _make_ready(connection: AnyConnection | AnyAsyncConnection, request: Statement | Transaction) -> None:
    _check_encoding(connection)
    if isinstance(connection, (Punctual, AsyncPunctual)):  # one of the user's waits as its user has it wait
        connection.takes_long = request.takes_long


def _check_encoding(connection: AnyConnection | AnyAsyncConnection) -> None:
    """Refuse what is not in UTF8: ids would not arrive, not come back as text, or not be sorted by code point."""
    database = connection.pgconn.parameter_status(b"server_encoding")
    if database not in (b"UTF8", None):  # None from a pooler that does not pass it on
        raise UnsupportedOperation(
            f"the database's encoding is {database.decode()}, and ids need UTF8: use a database that has it"
        )
    encoding = connection.pgconn.parameter_status(b"client_encoding")
    if encoding != b"UTF8":
        raise UnsupportedOperation(
            f"the given connection speaks {(encoding or b'nothing').decode()}: open it, or its pool, with "
            "client_encoding=UTF8"
        )


def _is_idle(connection: AnyConnection | AnyAsyncConnection) -> bool:
    """Whether a connection's settings can be changed. After an exception from outside, a query may not have ended."""
    return connection.pgconn.transaction_status == TransactionStatus.IDLE
