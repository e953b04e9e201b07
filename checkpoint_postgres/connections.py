"""Where connections come from: pools of our own, or what we were given."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import partial
from typing import Any, Self, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import psycopg
from psycopg import AsyncConnection, Connection, capabilities
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool, PoolTimeout

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.perloop import PerLoop
from checkpoint_base.perprocess import PerProcess
from checkpoint_base.transport import Closable

AnyConnection: TypeAlias = Connection[Any]
AnyAsyncConnection: TypeAlias = AsyncConnection[Any]
Pool: TypeAlias = ConnectionPool[Connection[Any]]
AsyncPool: TypeAlias = AsyncConnectionPool[AsyncConnection[Any]]

SyncLent = TypeVar("SyncLent", bound=AnyConnection)
AsyncLent = TypeVar("AsyncLent", bound=AnyAsyncConnection)

POOL_SECONDS = 5.0
"""How long one attempt waits for a connection. The saver's deadline decides how many attempts there are.

A pool gives up connecting after this time, too, and begins again for the next caller: its pauses double, and after an
outage of minutes it would not look for further minutes whether the server is back.
"""

ANSWER_SECONDS = 20.0
"""How long one attempt waits for a server that says nothing, before its connection is closed."""

LONG_ANSWER_SECONDS = 600.0
"""`ANSWER_SECONDS` for what takes longer the more there is: to prune, to delete, to copy."""

CANCELLED_WITHIN = 2.0
"""How long the server is then asked to give up, too: it may be as unreachable for that."""

RENEWED_EVERY = 1.0
"""A pool's idle connections are replaced at most once in this many seconds, however many callers have lost theirs."""

# Those of libpq, for connections that the network forgets without a word. A connection string may have its own.
_DEFAULTS: Mapping[str, str] = {
    "fallback_application_name": "checkpoint-backends",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

_TOLD_WITHIN = 2
"""Seconds for a connection that is made only to learn why a pool could not make one."""

# libpq ends the user information of a URL at the first @, and has none after a /: what follows of a password with
# either is taken for a part of the host's name or of the database's, which messages show.
_AMBIGUOUS = re.compile(r"postgres(ql)?://[^@/]*[@/][^?]*@")

_UNREADABLE = (
    "the connection string cannot be read: write postgresql://user:password@host:5432/database?sslmode=…, with options "
    "that libpq knows, and reserved characters of the password as %XX"
)

_POOL_OPTIONS: Mapping[str, Any] = {"kwargs": {"autocommit": True}, "reconnect_timeout": POOL_SECONDS}


class _Unanswered(psycopg.OperationalError):
    """The server has said nothing for too long. Whatever it does, its answer will not be read."""


class _Punctual(Connection[Any]):
    """A connection that does not wait forever: one whose server is suspended looks alive, and psycopg has no limit.

    What is given up here must end there as well: a session that waits for a lock does not notice that its client is
    gone, takes one of the server's connections meanwhile, and may store what it was sent over what came later. Only
    libpq 17 and newer can ask for that with a time limit; psycopg's binary package has it.
    """

    takes_long = False

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        try:
            return super().wait(_in_time(gen, self), *arguments, **options)
        except _Unanswered:
            try:
                if capabilities.has_cancel_safe():
                    with suppress(psycopg.OperationalError):  # it cannot be told either
                        self.cancel_safe(timeout=CANCELLED_WITHIN)
            finally:
                self.pgconn.finish()
            raise


class _AsyncPunctual(AsyncConnection[Any]):
    """`_Punctual`, for an event loop."""

    takes_long = False

    async def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        try:
            return await super().wait(_in_time(gen, self), *arguments, **options)
        except _Unanswered:
            try:
                if capabilities.has_cancel_safe():
                    with suppress(psycopg.OperationalError):
                        await self.cancel_safe(timeout=CANCELLED_WITHIN)
            finally:
                self.pgconn.finish()
            raise


def _in_time(steps: Generator[Any, Any, Any], connection: _Punctual | _AsyncPunctual) -> Generator[Any, Any, Any]:
    """Go through psycopg's steps, which wait for the socket, as long as it becomes ready now and then."""
    patience = LONG_ANSWER_SECONDS if connection.takes_long else ANSWER_SECONDS
    give_up_at = time.monotonic() + patience
    try:
        waits_for = next(steps)
        while True:
            # psycopg tells every tenth of a second that the socket is not ready.
            ready = yield waits_for
            now = time.monotonic()
            if ready:
                give_up_at = now + patience
            elif now > give_up_at:
                raise _Unanswered(f"the server has not answered for {patience:.0f} seconds")
            waits_for = steps.send(ready)
    except StopIteration as done:
        return done.value


class Connections(Closable, ABC):
    """Lends connections to any number of threads and event loops, each to one caller at a time, until it is closed."""

    @abstractmethod
    def lent(self, *, takes_long: bool) -> AbstractContextManager[AnyConnection]:
        """Lend a connection that has no transaction open, and take it back.

        ``takes_long`` says that the server may need minutes for what is asked of it.
        """

    @abstractmethod
    def alent(self, *, takes_long: bool) -> AbstractAsyncContextManager[AnyAsyncConnection]:
        """`lent`, for the running event loop."""


class _Pools:
    """The pools of one process."""

    def __init__(self, make_async: Callable[[], Awaitable[_TrackingPool]]) -> None:
        self.blocking: ConnectionPool[_Punctual] | None = None
        self.making = threading.Lock()
        self.per_loop = PerLoop(make_async, _TrackingPool.close, _TrackingPool.abandon)
        self.renewals = _Renewals()

    def taken(self) -> ConnectionPool[_Punctual] | None:
        """The pool for sync callers, which is not handed out any more."""
        with self.making:
            pool, self.blocking = self.blocking, None
        return pool


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
        if _AMBIGUOUS.match(conninfo):
            raise UnsupportedOperation(_UNREADABLE)
        try:
            given = conninfo_to_dict(conninfo)
            # Ids may be any text, whatever the rest of a program speaks.
            self._conninfo = make_conninfo("", **{**_DEFAULTS, **given, "client_encoding": "UTF8"})
        except psycopg.ProgrammingError:
            # Not quoted, and not chained: it shows parts of what it could not read, and there may be a password in it.
            raise UnsupportedOperation(_UNREADABLE) from None
        if "hostaddr" not in given:
            _check_hosts(str(given.get("host", "")))
        self._sizes: Mapping[str, Any] = {"min_size": min_size, "max_size": max_size}
        self._pools = PerProcess(partial(_Pools, self._make_async_pool))

    @contextmanager
    def lent(self, *, takes_long: bool) -> Iterator[AnyConnection]:
        self._check_open()
        pools = self._pools.get()
        pool = pools.blocking or self._make_pool(pools)
        try:
            with pools.renewals.lent(pool) as connection:
                connection.takes_long = takes_long
                yield connection
        except PoolTimeout as timeout:
            # The pool says nothing of why it could not connect.
            Connection.connect(self._conninfo, connect_timeout=_TOLD_WITHIN).close()
            raise self._all_busy() from timeout

    @asynccontextmanager
    async def alent(self, *, takes_long: bool) -> AsyncIterator[AnyAsyncConnection]:
        self._check_open()
        pools = self._pools.get()
        pool = await pools.per_loop.get()
        try:
            async with pools.renewals.alent(pool) as connection:
                connection.takes_long = takes_long
                yield connection
        except PoolTimeout as timeout:
            await (await AsyncConnection.connect(self._conninfo, connect_timeout=_TOLD_WITHIN)).close()
            raise self._all_busy() from timeout

    def close(self) -> None:
        self._is_closed = True
        pools = self._pools.get()
        if pool := pools.taken():
            pool.close()
        pools.per_loop.close()

    async def aclose(self) -> None:
        self._is_closed = True
        pools = self._pools.get()
        if pool := pools.taken():
            await asyncio.to_thread(pool.close)
        await pools.per_loop.aclose()

    def _make_pool(self, pools: _Pools) -> ConnectionPool[_Punctual]:
        # Whoever would wait for longer has a deadline to keep, and tries again.
        if not pools.making.acquire(timeout=POOL_SECONDS):
            raise StoreUnavailable(f"PostgreSQL has not accepted a connection for {POOL_SECONDS:.0f} seconds")
        try:
            self._check_open()
            if pools.blocking is None:
                # A pool connects in the background: what is wrong with the first connection is told here.
                Connection.connect(self._conninfo).close()
                pools.blocking = ConnectionPool(
                    self._conninfo, connection_class=_Punctual, open=True, **self._sizes, **_POOL_OPTIONS
                )
            return pools.blocking
        finally:
            pools.making.release()

    async def _make_async_pool(self) -> _TrackingPool:
        await (await AsyncConnection.connect(self._conninfo)).close()
        pool = _TrackingPool(self._conninfo, open=False, **self._sizes, **_POOL_OPTIONS)
        # Whoever asks before the first connection is there makes a pool begin a second one for nothing, which the end
        # of a short-lived loop would cut off.
        await pool.open(wait=True, timeout=POOL_SECONDS)
        return pool

    def _all_busy(self) -> PoolTimeout:
        return PoolTimeout(
            f"all connections of the pool have been busy for {POOL_SECONDS:.0f} seconds: raise "
            f"max_size={self._sizes['max_size']}, or do less at once"
        )


class _Given(Connections):
    """What was opened elsewhere, in this process."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def _check_usable(self) -> None:
        self._check_open()
        if os.getpid() != self._process:
            raise UnsupportedOperation(
                "the pool or connection was opened before this process was forked: open another saver in each process"
            )


class GivenPool(_Given):
    """A pool of the user's, for callers of its colour."""

    def __init__(self, pool: Pool | AsyncPool) -> None:
        super().__init__()
        self._pool = pool
        self._renewals = _Renewals()

    @contextmanager
    def lent(self, *, takes_long: bool) -> Iterator[AnyConnection]:  # noqa: ARG002  # it waits as its owner has it
        self._check_usable()
        if not isinstance(self._pool, ConnectionPool):
            raise _wrong_colour("an AsyncConnectionPool", "a…")
        with self._renewals.lent(self._pool) as connection:
            yield connection

    @asynccontextmanager
    async def alent(self, *, takes_long: bool) -> AsyncIterator[AnyAsyncConnection]:  # noqa: ARG002
        self._check_usable()
        if not isinstance(self._pool, AsyncConnectionPool):
            raise _wrong_colour("a ConnectionPool", "sync")
        async with self._renewals.alent(self._pool) as connection:
            yield connection


# Of every connection that was given to a saver. One saver sets autocommit for a moment, which another would take for
# that of the user.
_TURNS: WeakKeyDictionary[AnyConnection | AnyAsyncConnection, tuple[threading.Lock, asyncio.Lock]] = WeakKeyDictionary()


class GivenConnection(_Given):
    """One connection of the user's, lent in turns, also if several savers were given it.

    Its user may work with it meanwhile, except in a transaction. psycopg's own lock is held as long as a query is under
    way: whether a transaction is open is known after that.
    """

    def __init__(self, connection: AnyConnection | AnyAsyncConnection) -> None:
        super().__init__()
        self._connection = connection
        self._turn, self._async_turn = _TURNS.setdefault(connection, (threading.Lock(), asyncio.Lock()))

    @contextmanager
    def lent(self, *, takes_long: bool) -> Iterator[AnyConnection]:  # noqa: ARG002
        self._check_usable()
        if not isinstance(self._connection, Connection):
            raise _wrong_colour("an AsyncConnection", "a…")
        with self._turn:
            if not self._connection.lock.acquire(timeout=POOL_SECONDS):
                raise _busy()
            try:
                _check_given(self._connection)
            finally:
                self._connection.lock.release()
            yield self._connection

    @asynccontextmanager
    async def alent(self, *, takes_long: bool) -> AsyncIterator[AnyAsyncConnection]:  # noqa: ARG002
        self._check_usable()
        if not isinstance(self._connection, AsyncConnection):
            raise _wrong_colour("a Connection", "sync")
        async with self._async_turn:
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


class _TrackingPool(AsyncConnectionPool[_Cancellable]):
    """A pool that knows its connections, so that their sockets can be closed when its event loop has ended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._made: WeakSet[_Cancellable] = WeakSet()
        super().__init__(*args, connection_class=_Cancellable, configure=self._remember, **kwargs)

    async def _remember(self, connection: _Cancellable) -> None:
        self._made.add(connection)

    def abandon(self) -> None:
        for connection in list(self._made):
            connection.pgconn.finish()


class _Renewals:
    """Lends connections of pools, and replaces the idle ones of a pool when one is lost.

    What ended that one has likely ended those that lie idle, and each of them would fail another caller.
    """

    def __init__(self) -> None:
        self._latest: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    @contextmanager
    def lent(self, pool: ConnectionPool[SyncLent]) -> Iterator[SyncLent]:
        connection: SyncLent | None = None
        try:
            with pool.connection(timeout=POOL_SECONDS) as connection:
                yield connection
        except psycopg.OperationalError:
            if connection is not None and connection.closed and self._is_due(pool):
                pool.drain()
            raise

    @asynccontextmanager
    async def alent(self, pool: AsyncConnectionPool[AsyncLent]) -> AsyncIterator[AsyncLent]:
        connection: AsyncLent | None = None
        try:
            async with pool.connection(timeout=POOL_SECONDS) as connection:
                yield connection
        except psycopg.OperationalError:
            if connection is not None and connection.closed and self._is_due(pool):
                # To its end, whatever becomes of the caller: in the middle, the pool misses its connections.
                await asyncio.shield(pool.drain())
            raise

    def _is_due(self, pool: Any) -> bool:
        now = time.monotonic()
        is_due = now > self._latest.get(pool, 0.0) + RENEWED_EVERY
        if is_due:
            self._latest[pool] = now
        return is_due


def _check_hosts(hosts: str) -> None:
    """Refuse a name that Python's resolver does not take, for which it raises an error of no kind of psycopg's."""
    for host in hosts.split(","):
        try:
            if not host.startswith(("/", "@")):  # a socket
                host.encode("idna")
        except UnicodeError:
            raise UnsupportedOperation(_UNREADABLE) from None


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
            "afterwards, or give it a connection of its own"
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
