"""Where connections come from: pools of our own, or what the user passed in."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import partial
from math import inf
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolClosed, PoolTimeout

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.per_loop import OneLoop
from checkpoint_base.per_process import PerProcess
from checkpoint_base.transport import Closable
from checkpoint_base.turns import NoTurn, Turns
from checkpoint_postgres.errors import names_unknown_host
from checkpoint_postgres.pools import Connecting, ProcessPools, Renewals, TrackingPool, WatchedPool

AnyConnection: TypeAlias = Connection[Any]
AnyAsyncConnection: TypeAlias = AsyncConnection[Any]
Pool: TypeAlias = ConnectionPool[Connection[Any]]
AsyncPool: TypeAlias = AsyncConnectionPool[AsyncConnection[Any]]

POOL_SECONDS = 5.0
"""How long one attempt waits for a connection. The saver's deadline decides how many attempts there are.

A pool also stops reconnecting after this time, and starts afresh for the next caller. Otherwise its pauses would keep
doubling: after an outage of minutes, it would take further minutes to notice that the server is back.
"""

# Options of libpq against connections that the network drops silently. A connection string may override them.
_DEFAULTS: Mapping[str, str] = {
    "fallback_application_name": "checkpoint-backends",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# For libpq, the user information of a URL ends at the first @, and none can follow a /. It takes the rest of a password
# that contains either for part of the host or database name, which error messages show.
_AMBIGUOUS = re.compile(r"postgres(ql)?://[^@/]*[@/][^?]*@")

_UNREADABLE = (
    "the connection string cannot be read: write postgresql://user:password@host:5432/database?sslmode=…, with options "
    "that libpq knows, and reserved characters of the password as %XX. Also schema, prepare, min_size and max_size are "
    "options of URLs, but only of those that open_saver or from_conn_string is given"
)


class Connections(Closable, ABC):
    """Lends connections to any number of threads and event loops, each to one caller at a time, until closed."""

    @abstractmethod
    def lent(self) -> AbstractContextManager[AnyConnection]:
        """Lend a connection without an open transaction for the duration of the context."""

    @abstractmethod
    def alent(self) -> AbstractAsyncContextManager[AnyAsyncConnection]:
        """`lent`, for the running event loop."""


class OwnPools(Connections):
    """A pool for sync callers and one for each event loop, made when first needed; a forked process makes its own.

    Args:
        conninfo: a URL or keywords, as libpq takes them.
        min_size: connections that each pool keeps open.
        max_size: the most connections that each pool opens.
    """

    def __init__(self, conninfo: str, *, min_size: int, max_size: int) -> None:
        if not (0 <= min_size <= max_size and max_size >= 1):
            raise UnsupportedOperation(
                f"min_size={min_size} and max_size={max_size}: max_size must be at least 1 and at least min_size"
            )
        if _AMBIGUOUS.match(conninfo):
            raise UnsupportedOperation(_UNREADABLE)
        given, self._conninfo = {}, ""
        with suppress(psycopg.ProgrammingError):  # it shows parts of what it could not read, perhaps a password
            given = conninfo_to_dict(conninfo)
            # Ids may be any text, whatever encoding the rest of a program uses.
            self._conninfo = make_conninfo("", **{**_DEFAULTS, **given, "client_encoding": "UTF8"})
        if not self._conninfo:
            raise UnsupportedOperation(_UNREADABLE)
        if "hostaddr" not in given and not all(map(_is_host, str(given.get("host", "")).split(","))):
            raise UnsupportedOperation(_UNREADABLE)
        self._sizes: Mapping[str, Any] = {"min_size": min_size, "max_size": max_size}
        self._pools = PerProcess(partial(ProcessPools, self._make_pool, self._make_async_pool))

    @contextmanager
    def lent(self) -> Iterator[AnyConnection]:
        self._check_open()
        pools = self._pools.get()
        pools.per_loop.abandon_ended()
        pool = pools.blocking.get("PostgreSQL has not accepted a connection", seconds=POOL_SECONDS)
        try:
            with pools.renewals.lent(pool, seconds=POOL_SECONDS) as connection:
                yield connection
        except PoolTimeout as timeout:
            raise self._timed_out(pool.connecting) from timeout
        except PoolClosed:
            self._check_open()  # whoever waited for a connection is told what those are told who come now
            raise

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[AnyAsyncConnection]:
        self._check_open()
        pools = self._pools.get()
        try:
            pool = await pools.per_loop.get()
        except UnsupportedOperation:
            self._check_open()
            raise
        try:
            async with (
                pool.turns.turn(seconds=POOL_SECONDS),
                pools.renewals.alent(pool, seconds=POOL_SECONDS) as connection,
            ):
                yield connection
        except (PoolTimeout, NoTurn) as timeout:
            raise self._timed_out(pool.connecting) from timeout
        except PoolClosed:
            self._check_open()
            raise

    def close(self) -> None:
        self._close_blocking()
        self._pools.get().per_loop.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close_blocking)
        await self._pools.get().per_loop.aclose()

    def _close_blocking(self) -> None:
        self._is_closed = True
        if (pool := self._pools.get().blocking.take()) is not None:
            pool.close()

    def _make_pool(self) -> WatchedPool:
        self._check_open()
        # A pool connects in the background, where errors are lost. So a first connection is tried here.
        Connection.connect(self._conninfo).close()
        return WatchedPool(self._conninfo, open=True, reconnect_timeout=POOL_SECONDS, **self._sizes)

    async def _make_async_pool(self) -> TrackingPool:
        await (await AsyncConnection.connect(self._conninfo)).close()
        # Waits, because a caller that came before the first connection would make the pool begin a second one in vain,
        # which the end of a short-lived loop would cut off. The others need not be there for the first caller.
        first = {**self._sizes, "min_size": min(1, self._sizes["min_size"])}
        pool = TrackingPool(self._conninfo, open=False, reconnect_timeout=POOL_SECONDS, **first)
        try:
            await pool.open(wait=True, timeout=POOL_SECONDS)
        except PoolTimeout as timeout:
            raise psycopg.OperationalError(pool.connecting.trouble or str(timeout)) from timeout
        await pool.resize(**self._sizes)
        return pool

    def _timed_out(self, connecting: Connecting) -> psycopg.OperationalError | StoreUnavailable:
        # Trying to connect here would tell as well, but thousands of callers may be waiting for a few connections.
        if connecting.trouble and names_unknown_host(connecting.trouble):
            # It was known when the pool was made. That of a pod is unknown while the pod is made anew.
            return StoreUnavailable(f"PostgreSQL: {connecting.trouble}")
        if connecting.trouble:
            return psycopg.OperationalError(connecting.trouble)
        return PoolTimeout(
            f"all connections of the pool have been busy for {POOL_SECONDS:.0f} seconds: raise "
            f"max_size={self._sizes['max_size']}, or do less at once"
        )


class _Given(Connections):
    """A pool or connection that the user opened, in this process."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = OneLoop(
            "the given pool or connection is in use on another event loop: open one for each loop, or make the "
            "saver from a connection string, which serves all of them"
        )

    def _check_usable(self) -> None:
        self._check_open()
        if os.getpid() != self._process:
            raise UnsupportedOperation(
                "the pool or connection was opened before this process was forked: open another saver in each process"
            )


class GivenPool(_Given):
    """The user's pool, for callers of its colour."""

    def __init__(self, pool: Pool | AsyncPool) -> None:
        super().__init__()
        self._pool = pool
        self._renewals = Renewals()

    @contextmanager
    def lent(self) -> Iterator[AnyConnection]:
        self._check_usable()
        if not isinstance(self._pool, ConnectionPool):
            raise _wrong_colour("an AsyncConnectionPool", "a…")
        with self._renewals.lent(self._pool, seconds=POOL_SECONDS) as connection:
            yield connection

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[AnyAsyncConnection]:
        self._check_usable()
        if not isinstance(self._pool, AsyncConnectionPool):
            raise _wrong_colour("a ConnectionPool", "sync")
        self._loop.check()
        async with self._renewals.alent(self._pool, seconds=POOL_SECONDS) as connection:
            yield connection


# For every connection that was given to a saver, what all savers on it take turns by. One saver switches autocommit on
# for a moment, which another would take for the user's setting. An asyncio.Lock would stay with its first event loop.
_TURNS: WeakKeyDictionary[AnyConnection | AnyAsyncConnection, tuple[threading.Lock, Turns]] = WeakKeyDictionary()


class GivenConnection(_Given):
    """The user's connection, lent to one caller at a time, even if several savers were given it.

    The user may go on using it, except in a transaction. Whether a transaction is open is known only between queries,
    so it is checked under psycopg's own lock, which is held during a query.
    """

    def __init__(self, connection: AnyConnection | AnyAsyncConnection) -> None:
        super().__init__()
        self._connection = connection
        self._lending, self._turns = _TURNS.setdefault(connection, (threading.Lock(), Turns(1)))

    @contextmanager
    def lent(self) -> Iterator[AnyConnection]:
        self._check_usable()
        if not isinstance(self._connection, Connection):
            raise _wrong_colour("an AsyncConnection", "a…")
        with self._lending:
            if not self._connection.lock.acquire(timeout=POOL_SECONDS):
                raise _busy()
            try:
                _check_given(self._connection)
            finally:
                self._connection.lock.release()
            yield self._connection

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[AnyAsyncConnection]:
        self._check_usable()
        if not isinstance(self._connection, AsyncConnection):
            raise _wrong_colour("a Connection", "sync")
        self._loop.check()
        async with self._turns.turn(seconds=inf):
            try:
                async with asyncio.timeout(POOL_SECONDS):
                    await self._connection.lock.acquire()
            except TimeoutError:
                raise _busy() from None
            try:
                _check_given(self._connection)
            finally:
                self._connection.lock.release()
            yield self._connection


def _is_host(host: str) -> bool:
    """Whether Python's resolver can encode a name: otherwise its error would be a `UnicodeError`, none of psycopg's."""
    if host.startswith(("/", "@")):  # a socket
        return True
    with suppress(UnicodeError):
        host.encode("idna")
        return True
    return False


def _check_given(connection: AnyConnection | AnyAsyncConnection) -> None:
    if connection.broken:
        raise StoreUnavailable("the given connection is lost: give the saver a pool, which opens another one")
    if connection.closed:
        raise UnsupportedOperation("the given connection is closed: open another one")
    if (
        connection.pgconn.pipeline_status != PipelineStatus.OFF
        or connection.pgconn.transaction_status == TransactionStatus.ACTIVE
    ):
        raise UnsupportedOperation(
            "the given connection is in use by its pipeline(), or by a query that has not ended: call the saver "
            "afterwards, or give it a connection of its own. If a call was interrupted, open another connection, or "
            "give the saver a pool"
        )
    if connection.pgconn.transaction_status != TransactionStatus.IDLE:
        raise UnsupportedOperation(
            "the given connection has a transaction open, which storing a checkpoint would commit: end it first, or "
            "give the saver a connection of its own"
        )


def _busy() -> StoreUnavailable:
    return StoreUnavailable(
        f"the given connection has been in use for {POOL_SECONDS:.0f} seconds: give the saver one of its own, or a pool"
    )


def _wrong_colour(what: str, colour: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"this saver was made from {what} and serves {colour} methods only: make one from a connection string for both"
    )
