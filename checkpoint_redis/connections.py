"""Where connections come from: clients of our own, or what we were given."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from threading import Lock, Semaphore
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.perloop import PerLoop
from checkpoint_base.perprocess import PerProcess
from checkpoint_base.transport import Closable
from checkpoint_redis.urls import Deployment

ASYNC_REQUESTS = 64
"""How many requests of one event loop are under way at once; each takes a connection. Further ones wait in line."""

CONNECTING_SECONDS = 5.0
"""How long one attempt waits while another caller connects. The saver's deadline decides how many there are."""


class Clients(Closable, ABC):
    """Hands out clients to any number of threads and event loops, until it is closed."""

    is_async = True
    """Whether there is a client for event loops. Otherwise their requests run on threads."""

    is_cluster: bool

    @abstractmethod
    def blocking(self) -> AbstractContextManager[Any]:
        """The client for blocking calls, for one request."""

    @abstractmethod
    def asynchronous(self) -> AbstractAsyncContextManager[Any]:
        """The running loop's client, for one request."""


@dataclass(slots=True)
class _Made:
    """The clients of one process."""

    turns: Semaphore | None
    """For blocking calls, if the connections are limited."""
    per_loop: PerLoop[tuple[Any, asyncio.Semaphore]]
    client: Any = None
    making: Lock = field(default_factory=Lock)


class OwnClients(Clients):
    """A client for blocking calls and one for each event loop, made when they are first needed; all anew in a fork."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.is_cluster = deployment.is_cluster
        # A forked process must not speak on its parent's connections, nor close them with a word to the server.
        self._made = PerProcess(self._nothing_made)

    @contextmanager
    def blocking(self) -> Iterator[Any]:
        made = self._made.get()
        client = self._made_client(made) if made.client is None else made.client
        if made.turns is None:
            yield client
            return
        if not made.turns.acquire(timeout=CONNECTING_SECONDS):
            raise StoreUnavailable(
                f"all connections to Redis have been busy for {CONNECTING_SECONDS:.0f} seconds: raise max_connections"
            )
        try:
            yield client
        finally:
            made.turns.release()

    def _made_client(self, made: _Made) -> Any:
        # A cluster's client connects when it is made. Whoever would wait for longer has a deadline to keep.
        if not made.making.acquire(timeout=CONNECTING_SECONDS):
            raise StoreUnavailable(f"Redis has not accepted a connection for {CONNECTING_SECONDS:.0f} seconds")
        try:
            self._check_open()
            if made.client is None:
                made.client = self._deployment.client()
            return made.client
        finally:
            made.making.release()

    @asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[Any]:
        self._check_open()
        client, turns = await self._made.get().per_loop.get()
        async with turns:
            yield client

    def close(self) -> None:
        self._close_blocking()
        self._made.get().per_loop.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close_blocking)  # it waits while a client is being made
        await self._made.get().per_loop.aclose()

    def _close_blocking(self) -> None:
        made = self._made.get()
        with made.making:
            self._is_closed = True
            client, made.client = made.client, None
        if client is not None:
            self._deployment.close(client)

    def _nothing_made(self) -> _Made:
        most = self._deployment.options.get("max_connections")
        turns = None if most is None else Semaphore(most)
        return _Made(turns, PerLoop(self._make, self._close, _abandon))

    async def _make(self) -> tuple[Any, asyncio.Semaphore]:
        most = self._deployment.options.get("max_connections", ASYNC_REQUESTS)
        client = self._deployment.async_client()
        if self._deployment.is_cluster:
            await client.initialize()  # left to itself, it has every caller try in turn
        return client, asyncio.Semaphore(min(ASYNC_REQUESTS, most))

    async def _close(self, made: tuple[Any, asyncio.Semaphore]) -> None:
        await self._deployment.aclose(made[0])


class GivenClients(Clients):
    """A client of the user's, which stays open."""

    def __init__(self, client: Any) -> None:
        self.is_async = isinstance(client, (redis.asyncio.Redis, AsyncRedisCluster))
        if not self.is_async and not isinstance(client, (redis.Redis, redis.RedisCluster)):
            raise UnsupportedOperation(
                f"a saver on Redis takes a URL, or a client or cluster client of redis-py, not {type(client).__name__}"
            )
        self.is_cluster = isinstance(client, (redis.RedisCluster, AsyncRedisCluster))
        self._client = client

    @contextmanager
    def blocking(self) -> Iterator[Any]:
        self._check_open()
        if self.is_async:
            raise UnsupportedOperation(
                "this saver was given an async client, and this call is blocking: use the method with an a before its "
                "name (aput, aget_tuple, ainvoke), or open the saver with a URL, which serves both"
            )
        yield self._client

    @asynccontextmanager
    async def asynchronous(self) -> AsyncIterator[Any]:
        self._check_open()
        yield self._client


def _abandon(made: tuple[Any, asyncio.Semaphore]) -> None:
    """Free the sockets of a client whose loop has ended: redis-py closes connections only on their loop."""
    client = made[0]
    if isinstance(client, AsyncRedisCluster):
        client._initialize = True  # as its own `aclose` leaves it; or it would warn that it was not closed
    for connection in _connections(client):
        writer = getattr(connection, "_writer", None)
        if writer is None:
            continue
        connection._writer = connection._reader = None
        socket = getattr(writer.transport, "_sock", None)
        try:
            writer.transport.abort()
        except RuntimeError:  # the loop is closed, and will not call the transport back to close its socket
            writer.transport._sock = None
        if socket is not None:
            socket.close()


def _connections(client: Any) -> list[Any]:
    if isinstance(client, AsyncRedisCluster):
        manager = client.nodes_manager
        nodes = (*manager.nodes_cache.values(), *manager.startup_nodes.values())  # of the same name, and not the same
        return [connection for node in nodes for connection in node._connections]
    pools = [client.connection_pool]
    sentinels = getattr(client.connection_pool, "sentinel_manager", None)
    if sentinels is not None:
        pools += [sentinel.connection_pool for sentinel in sentinels.sentinels]
    return [connection for pool in pools for connection in (*pool._available_connections, *pool._in_use_connections)]
