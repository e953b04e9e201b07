"""Pools of psycopg, and what they lack: renewal after an outage, the reason why one cannot connect, and an end together
with their event loop.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Self, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.errors import ReadOnlySqlTransaction
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from checkpoint_base.per_loop import PerLoop
from checkpoint_base.per_process import MadeOnce
from checkpoint_base.turns import Turns
from checkpoint_postgres.punctual import AsyncPunctual, Punctual

Lent = TypeVar("Lent", bound=Connection[Any])
AsyncLent = TypeVar("AsyncLent", bound=AsyncConnection[Any])

RENEWED_EVERY = 1.0
"""Seconds between two renewals of a pool, however many callers lose their connections meanwhile."""


class Renewals:
    """Lends connections of pools. When a connection is lost or read-only, all idle ones of its pool are replaced.

    Whatever ended that connection has probably ended the idle ones, and each of those would fail another caller.

    After a failover, a name or a proxy may for a moment still lead to the old primary, which is a standby by then.
    Connections made meanwhile work, and without being replaced would stay with it for the hour that a pool keeps them.
    """

    def __init__(self) -> None:
        self._latest: WeakKeyDictionary[Any, float] = WeakKeyDictionary()

    @contextmanager
    def lent(self, pool: ConnectionPool[Lent], *, seconds: float) -> Iterator[Lent]:
        connection: Lent | None = None
        try:
            with pool.connection(timeout=seconds) as connection:
                yield connection
        except (psycopg.OperationalError, ReadOnlySqlTransaction) as error:
            if _is_of_no_use(connection, error) and self._is_due(pool):
                pool.drain()
            raise

    @asynccontextmanager
    async def alent(self, pool: AsyncConnectionPool[AsyncLent], *, seconds: float) -> AsyncIterator[AsyncLent]:
        connection: AsyncLent | None = None
        try:
            async with pool.connection(timeout=seconds) as connection:
                yield connection
        except (psycopg.OperationalError, ReadOnlySqlTransaction) as error:
            if _is_of_no_use(connection, error) and self._is_due(pool):
                # Shielded, because a pool whose drain is cut short has lost its connections.
                await asyncio.shield(pool.drain())
            raise

    def _is_due(self, pool: Any) -> bool:
        now = time.monotonic()
        is_due = now > self._latest.get(pool, 0.0) + RENEWED_EVERY
        if is_due:
            self._latest[pool] = now
        return is_due


def _is_of_no_use(connection: Connection[Any] | AsyncConnection[Any] | None, error: psycopg.Error) -> bool:
    return connection is not None and (connection.closed or isinstance(error, ReadOnlySqlTransaction))


class Connecting:
    """How connecting goes for a pool, which does it in the background and does not say."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        """Why there is no new connection, as far as is known, or None if the latest attempt has made one."""

    @contextmanager
    def attempt(self) -> Iterator[None]:
        if self.trouble is None:  # otherwise why the attempt before failed tells more
            self.trouble = "the server has not accepted a connection yet"
        try:
            yield
        except Exception as error:
            self.trouble = str(error)
            raise
        self.trouble = None


class _Watched(Punctual):
    """A connection of `WatchedPool`."""

    @classmethod
    def connect(cls, *args: Any, connecting: Connecting, **kwargs: Any) -> Self:  # type: ignore[override]  # by its pool
        with connecting.attempt():
            return super().connect(*args, **kwargs)


class WatchedPool(ConnectionPool[_Watched]):
    """A pool for sync callers that knows how connecting goes, and closes when the interpreter ends."""

    def __init__(self, conninfo: str, **options: Any) -> None:
        self.connecting = Connecting()
        self.opened_by = os.getpid()
        kwargs = {"autocommit": True, "connecting": self.connecting}
        super().__init__(conninfo, connection_class=_Watched, kwargs=kwargs, **options)
        _pools.add(self)


_pools: WeakSet[WatchedPool] = WeakSet()


@atexit.register
def _close_pools() -> None:
    # Otherwise psycopg's pool waits for its threads when it is collected. By then, from Python 3.13 on, they do not run
    # any more, and it waits 5 seconds for each of the four.
    for pool in list(_pools):
        if pool.opened_by == os.getpid():  # closing that of a parent process would end its connections
            pool.close()


class _Cancellable(AsyncPunctual):
    """A connection whose attempt to connect can be cancelled in a pool.

    A worker of psycopg's pool takes a cancellation for a failed attempt and goes on. `asyncio.run` cancels every task
    only once at its end, and would wait for that worker forever. So the worker is cancelled a second time.
    """

    @classmethod
    async def connect(cls, *args: Any, connecting: Connecting, **kwargs: Any) -> Self:  # type: ignore[override]  # by its pool
        try:
            with connecting.attempt():
                return await super().connect(*args, **kwargs)
        except asyncio.CancelledError:
            if (worker := asyncio.current_task()) is not None:
                asyncio.get_running_loop().call_soon(worker.cancel)
            raise asyncio.CancelledError("the event loop ends") from None  # which psycopg's pool logs


class _Event(asyncio.Event):
    """What wakes the scheduler of psycopg's pool, which waits for it by `asyncio.wait_for`.

    On Python 3.11 that forgets a cancellation if what it waits for came just before. `asyncio.run` cancels every task
    only once at its end, and would wait for the scheduler forever.
    """

    async def wait_timeout(self, timeout: float) -> bool:  # noqa: ASYNC109  # psycopg's signature
        try:
            async with asyncio.timeout(timeout):
                return await self.wait()
        except TimeoutError:
            return False


class TrackingPool(AsyncConnectionPool[_Cancellable]):
    """A pool for an event loop that knows how connecting goes.

    It also knows its connections, so that their sockets can be closed after its event loop has ended. And its callers
    take ``turns``, as many at once as it may have connections: whoever waits for the pool itself loses its place when
    the time is up, and under load those who came later were served first.
    """

    def __init__(self, conninfo: str, *, max_size: int, **options: Any) -> None:
        self.connecting = Connecting()
        self.turns = Turns(max_size)
        self._made: WeakSet[_Cancellable] = WeakSet()
        kwargs = {"autocommit": True, "connecting": self.connecting}
        super().__init__(
            conninfo,
            connection_class=_Cancellable,
            configure=self._remember,
            kwargs=kwargs,
            max_size=max_size,
            **options,
        )

    def _start_workers(self) -> None:
        if sys.version_info < (3, 12):
            self._sched._event = _Event()  # type: ignore[assignment]
        super()._start_workers()

    async def _remember(self, connection: _Cancellable) -> None:
        self._made.add(connection)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # psycopg's signature
        if self._workers and all(worker.done() for worker in self._workers):
            self.abandon()  # `asyncio.run` has cancelled them, and psycopg would wait for them
        else:
            await super().close(timeout)

    def abandon(self) -> None:
        for connection in list(self._made):
            connection.pgconn.finish()
        for task in filter(None, (*self._workers, self._sched_runner)):
            if task.get_loop().is_closed():  # nobody cancelled them: each would print tracebacks when it is collected
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(RuntimeError):  # of the closed loop
                    task.get_coro().close()


class ProcessPools:
    """The pools of one process: one for sync callers, and one for each event loop."""

    def __init__(self, make: Callable[[], WatchedPool], make_async: Callable[[], Awaitable[TrackingPool]]) -> None:
        self.blocking = MadeOnce(make)
        self.per_loop = PerLoop(make_async, TrackingPool.close, TrackingPool.abandon, lambda pool: pool.turns.taken)
        self.renewals = Renewals()
