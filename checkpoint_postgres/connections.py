"""Where connections come from: pools of our own, or what we were given."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Self, TypeAlias
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.perloop import PerLoop

AnyConnection: TypeAlias = Connection[Any]
AnyAsyncConnection: TypeAlias = AsyncConnection[Any]
Pool: TypeAlias = ConnectionPool[Connection[Any]]
AsyncPool: TypeAlias = AsyncConnectionPool[AsyncConnection[Any]]

POOL_SECONDS = 5.0
"""How long one attempt waits for a connection. The saver's deadline decides how many attempts there are.

A pool gives up connecting after this time, too, and begins again for the next caller: its pauses double, and after an
outage of minutes it would not look for further minutes whether the server is back.
"""

ANSWER_SECONDS = 20.0
"""How long one attempt waits for a server that says nothing, before its connection is closed."""

# Those of libpq, for connections that the network forgets without a word. A connection string may have its own.
_DEFAULTS: Mapping[str, str] = {
    "fallback_application_name": "checkpoint-backends",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


class _Punctual(Connection[Any]):
    """A connection that does not wait forever: one whose server is suspended looks alive, and psycopg has no limit."""

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        return super().wait(_in_time(gen, self), *arguments, **options)


class _AsyncPunctual(AsyncConnection[Any]):
    """`_Punctual`, for an event loop."""

    async def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        return await super().wait(_in_time(gen, self), *arguments, **options)


def _in_time(
    steps: Generator[Any, Any, Any], connection: AnyConnection | AnyAsyncConnection
) -> Generator[Any, Any, Any]:
    """Go through psycopg's steps, which wait for the socket, as long as it becomes ready now and then."""
    give_up_at = time.monotonic() + ANSWER_SECONDS
    try:
        waits_for = next(steps)
        while True:
            # psycopg tells every tenth of a second that the socket is not ready.
            ready = yield waits_for
            now = time.monotonic()
            if ready:
                give_up_at = now + ANSWER_SECONDS
            elif now > give_up_at:
                connection.pgconn.finish()
                raise psycopg.OperationalError(f"the server has not answered for {ANSWER_SECONDS:.0f} seconds")
            waits_for = steps.send(ready)
    except StopIteration as done:
        return done.value


class Connections(ABC):
    """Lends connections to any number of threads and event loops, each to one caller at a time."""

    @abstractmethod
    def lent(self) -> AbstractContextManager[AnyConnection]:
        """Lend a connection that has no transaction open, and take it back."""

    @abstractmethod
    def alent(self) -> AbstractAsyncContextManager[AnyAsyncConnection]:
        """`lent`, for the running event loop."""

    @abstractmethod
    def close(self) -> None:
        """Close what was opened here."""

    @abstractmethod
    async def aclose(self) -> None:
        """`close`, asynchronously."""


class OwnPools(Connections):
    """A pool for sync callers and one for each event loop, made when they are first needed; all of them anew in a fork.

    Args:
        conninfo: a URL or keywords, as libpq takes them.
        min_size: connections that each pool keeps open.
        max_size: connections that each pool opens at most.
    """

    def __init__(self, conninfo: str, *, min_size: int, max_size: int) -> None:
        if not (0 <= min_size <= max_size and max_size >= 1):
            raise UnsupportedOperation(
                f"min_size={min_size} and max_size={max_size}: max_size must be at least 1 and at least min_size"
            )
        try:
            given = conninfo_to_dict(conninfo)
            self._conninfo = make_conninfo("", **{**_DEFAULTS, **given})
        except psycopg.ProgrammingError:
            # Not quoted, and not chained: it shows parts of what it could not read, and there may be a password in it.
            raise UnsupportedOperation(
                "the connection string cannot be read: write postgresql://user:password@host:5432/database?sslmode=…, "
                "with reserved characters of the password as %XX"
            ) from None
        self._min_size, self._max_size = min_size, max_size
        self._is_closed = False
        self._begin_in_this_process()

    def _begin_in_this_process(self) -> None:
        self._process = os.getpid()
        self._pool: Pool | None = None
        self._making_pool = threading.Lock()
        self._pools: PerLoop[AsyncPool] = PerLoop(self._make_async_pool, _close_async_pool, _abandon)

    def _check_usable(self) -> None:
        if self._is_closed:
            raise UnsupportedOperation("the saver is closed: open another one")
        if os.getpid() != self._process:
            # Kept and not closed: that would end the parent's sessions.
            self._of_parent = (self._pool, self._pools)
            self._begin_in_this_process()

    @contextmanager
    def lent(self) -> Iterator[AnyConnection]:
        self._check_usable()
        pool = self._pool or self._make_pool()
        with _lent(pool) as connection:
            yield connection

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[AnyAsyncConnection]:
        self._check_usable()
        async with _alent(await self._pools.get()) as connection:
            yield connection

    def close(self) -> None:
        if self._end():
            with self._making_pool:
                pool, self._pool = self._pool, None
            if pool is not None:
                pool.close()
            self._pools.close()

    async def aclose(self) -> None:
        if self._end():
            with self._making_pool:
                pool, self._pool = self._pool, None
            if pool is not None:
                await asyncio.to_thread(pool.close)
            await self._pools.aclose()

    def _end(self) -> bool:
        """Admit nobody any more; whether there may be something to close in this process."""
        self._is_closed = True
        return os.getpid() == self._process

    def _make_pool(self) -> Pool:
        with self._making_pool:
            if self._is_closed:
                raise UnsupportedOperation("the saver is closed: open another one")
            if self._pool is None:
                # A pool connects in the background and says nothing but that it took too long.
                Connection.connect(self._conninfo, autocommit=True).close()
                self._pool = ConnectionPool(
                    self._conninfo,
                    connection_class=_Punctual,
                    kwargs={"autocommit": True},
                    min_size=self._min_size,
                    max_size=self._max_size,
                    timeout=POOL_SECONDS,
                    reconnect_timeout=POOL_SECONDS,
                    open=True,
                )
            return self._pool

    async def _make_async_pool(self) -> AsyncPool:
        await (await AsyncConnection.connect(self._conninfo, autocommit=True)).close()
        pool: AsyncPool = _TrackingPool(
            self._conninfo,
            kwargs={"autocommit": True},
            min_size=self._min_size,
            max_size=self._max_size,
            timeout=POOL_SECONDS,
            reconnect_timeout=POOL_SECONDS,
            open=False,
        )
        await pool.open()
        return pool


class GivenPool(Connections):
    """A pool of the user's, for callers of its colour."""

    def __init__(self, pool: Pool | AsyncPool) -> None:
        self._pool = pool
        self._process = os.getpid()

    @contextmanager
    def lent(self) -> Iterator[AnyConnection]:
        _check_process(self._process)
        if not isinstance(self._pool, ConnectionPool):
            raise _wrong_colour("an AsyncConnectionPool", "a…")
        with _lent(self._pool) as connection:
            yield connection

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[AnyAsyncConnection]:
        _check_process(self._process)
        if not isinstance(self._pool, AsyncConnectionPool):
            raise _wrong_colour("a ConnectionPool", "sync")
        async with _alent(self._pool) as connection:
            yield connection

    def close(self) -> None:
        """It is the user's."""

    async def aclose(self) -> None:
        """It is the user's."""


class GivenConnection(Connections):
    """One connection of the user's, lent in turns."""

    def __init__(self, connection: AnyConnection | AnyAsyncConnection) -> None:
        self._connection = connection
        self._process = os.getpid()
        self._turn = threading.Lock()
        self._async_turn = asyncio.Lock()

    @contextmanager
    def lent(self) -> Iterator[AnyConnection]:
        _check_process(self._process)
        if not isinstance(self._connection, Connection):
            raise _wrong_colour("an AsyncConnection", "a…")
        with self._turn:
            _check_given(self._connection)
            yield self._connection

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[AnyAsyncConnection]:
        _check_process(self._process)
        if not isinstance(self._connection, AsyncConnection):
            raise _wrong_colour("a Connection", "sync")
        async with self._async_turn:
            _check_given(self._connection)
            yield self._connection

    def close(self) -> None:
        """It is the user's."""

    async def aclose(self) -> None:
        """It is the user's."""


class _Cancellable(_AsyncPunctual):
    """A connection whose attempt to connect can be cancelled in a pool.

    A worker of psycopg's pool takes a cancellation for a failed attempt and goes on; the end of `asyncio.run`, which
    cancels every task once, would then wait for it for ever. So the worker is cancelled once more.
    """

    @classmethod
    async def connect(cls, *args: Any, **kwargs: Any) -> Self:
        try:
            return await super().connect(*args, **kwargs)
        except asyncio.CancelledError:
            if (worker := asyncio.current_task()) is not None:
                asyncio.get_running_loop().call_soon(worker.cancel)
            raise


class _TrackingPool(AsyncConnectionPool[AsyncConnection[Any]]):
    """A pool that knows its connections, so that their sockets can be closed when its event loop has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.made: WeakSet[AnyAsyncConnection] = WeakSet()
        super().__init__(*args, connection_class=_Cancellable, configure=self._remember, **kwargs)

    async def _remember(self, connection: AnyAsyncConnection) -> None:
        self.made.add(connection)


async def _close_async_pool(pool: AsyncPool) -> None:
    await pool.close()


def _abandon(pool: AsyncPool) -> None:
    if isinstance(pool, _TrackingPool):
        for connection in list(pool.made):
            connection.pgconn.finish()


@contextmanager
def _lent(pool: Pool) -> Iterator[AnyConnection]:
    connection: AnyConnection | None = None
    try:
        with pool.connection(timeout=POOL_SECONDS) as connection:
            yield connection
    except psycopg.OperationalError:
        # What ended this one has likely ended those that lie idle. Without this each of them would fail a caller.
        if connection is not None and connection.closed:
            pool.check()
        raise


@asynccontextmanager
async def _alent(pool: AsyncPool) -> AsyncIterator[AnyAsyncConnection]:
    connection: AnyAsyncConnection | None = None
    try:
        async with pool.connection(timeout=POOL_SECONDS) as connection:
            yield connection
    except psycopg.OperationalError:
        if connection is not None and connection.closed:
            # To its end, whatever becomes of the caller: in the middle, the pool misses its connections.
            await asyncio.shield(pool.check())
        raise


def _check_process(process: int) -> None:
    if os.getpid() != process:
        raise UnsupportedOperation(
            "the pool or connection was opened before this process was forked: open another saver in each process"
        )


def _check_given(connection: AnyConnection | AnyAsyncConnection) -> None:
    if connection.broken:
        raise StoreUnavailable("the given connection is lost: give the saver a pool, which opens another one")
    if connection.closed:
        raise UnsupportedOperation("the given connection is closed: open another one")
    if connection.info.transaction_status != TransactionStatus.IDLE:
        raise UnsupportedOperation(
            "the given connection has a transaction open, which storing a checkpoint would commit: end it first, or "
            "give the saver a connection of its own"
        )


def _wrong_colour(what: str, colour: str) -> UnsupportedOperation:
    return UnsupportedOperation(
        f"this saver was made of {what} and serves {colour} methods only: make one from a connection string for both"
    )
