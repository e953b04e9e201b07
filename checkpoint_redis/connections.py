"""Where connections come from: clients of our own, or one that was given to the saver."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError, RedisError, TimeoutError  # redis-py's own
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.per_loop import OneLoop, PerLoop
from checkpoint_base.per_process import MadeOnce, PerProcess
from checkpoint_base.transport import Closable
from checkpoint_base.turns import NoTurn, Turns
from checkpoint_redis.errors import is_of_another_loop
from checkpoint_redis.urls import Deployment

ASYNC_REQUESTS = 64
"""How many requests of one event loop run at once. Each takes a connection; further ones wait for their turn."""

CONNECTING_SECONDS = 5.0
"""How long one attempt waits for a free connection, or while another caller connects.

The saver's deadline decides the number of attempts.
"""


class Clients(Closable, ABC):
    """Hands out clients to any number of threads and event loops, until it is closed."""

    is_async = True
    """Whether there is an async client. Otherwise async requests run on threads."""

    is_cluster: bool

    @abstractmethod
    def lent(self) -> AbstractContextManager[Any]:
        """Lend the blocking client for one request."""

    @abstractmethod
    def alent(self) -> AbstractAsyncContextManager[Any]:
        """Lend the running loop's client for one request."""


@dataclass(slots=True)
class _Made:
    """The clients of one process."""

    permits: SimpleQueue[None] | None
    """For blocking calls: one for each connection, if the connections are limited.

    Not a `Semaphore`, whose own lock stays held for ever if a signal handler raises at the wrong moment.
    """
    per_loop: PerLoop[tuple[Any, Turns]]
    client: MadeOnce[Any]


class OwnClients(Clients):
    """A client for blocking calls and one for each event loop, each made when first needed, and made anew in a fork."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.is_cluster = deployment.is_cluster
        # A forked process must neither use its parent's connections nor tell the server to close them.
        self._made = PerProcess(self._nothing_made)

    @contextmanager
    def lent(self) -> Iterator[Any]:
        made = self._made.get()
        made.per_loop.abandon_ended()
        client = made.client.get("Redis has not accepted a connection", seconds=CONNECTING_SECONDS)
        if made.permits is None:
            yield client
            return
        try:
            made.permits.get(timeout=CONNECTING_SECONDS)
        except Empty:
            raise StoreUnavailable(
                f"all connections to Redis have been busy for {CONNECTING_SECONDS:.0f} seconds: raise max_connections"
            ) from None
        try:
            yield client
        finally:
            made.permits.put(None)

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[Any]:
        self._check_open()
        client, turns = await self._made.get().per_loop.get()
        try:
            async with turns.turn(seconds=CONNECTING_SECONDS):
                yield client
        except NoTurn:
            raise StoreUnavailable(
                f"Redis has answered none of this event loop's requests for {CONNECTING_SECONDS:.0f} seconds, and as "
                "many are waiting for an answer as may at once"
            ) from None

    def close(self) -> None:
        self._close_blocking()
        self._made.get().per_loop.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close_blocking)  # blocks while a client is being made
        await self._made.get().per_loop.aclose()

    def _close_blocking(self) -> None:
        self._is_closed = True
        if (client := self._made.get().client.take()) is not None:
            _close_client(client)

    def _nothing_made(self) -> _Made:
        most = self._deployment.options.get("max_connections")
        permits: SimpleQueue[None] | None = None
        if most is not None:
            permits = SimpleQueue()
            for _ in range(most):
                permits.put(None)
        per_loop = PerLoop(self._make_async, _aclose_client, _abandon_client, lambda made: made[1].taken)
        return _Made(permits, per_loop, MadeOnce(self._make_blocking))

    def _make_blocking(self) -> Any:
        self._check_open()
        return _blocking_client(self._deployment)  # a cluster's connects when it is made

    async def _make_async(self) -> tuple[Any, Turns]:
        most = self._deployment.options.get("max_connections", ASYNC_REQUESTS)
        client = _async_client(self._deployment)
        if self._deployment.is_cluster:
            await client.initialize()  # otherwise its callers would each try to, one after the other
        return client, Turns(min(ASYNC_REQUESTS, most))


class GivenClient(Clients):
    """A client that belongs to the user, and stays open."""

    def __init__(self, client: Any) -> None:
        self.is_async = isinstance(client, (redis.asyncio.Redis, AsyncRedisCluster))
        if not self.is_async and not isinstance(client, (redis.Redis, redis.RedisCluster)):
            raise UnsupportedOperation(
                f"a saver on Redis takes a URL, or a client or cluster client of redis-py, not {type(client).__name__}"
            )
        self.is_cluster = isinstance(client, (redis.RedisCluster, AsyncRedisCluster))
        self._client = client
        self._loop = OneLoop(
            "the given client is in use on another event loop: make one for each loop, or open the saver with a "
            "URL, which serves all of them"
        )

    @contextmanager
    def lent(self) -> Iterator[Any]:
        self._check_open()
        if self.is_async:
            raise UnsupportedOperation(
                "this saver was given an async client, and this call is blocking: use the method with an a before its "
                "name (aput, aget_tuple, ainvoke), or open the saver with a URL, which serves both"
            )
        yield self._client

    @asynccontextmanager
    async def alent(self) -> AsyncIterator[Any]:
        self._check_open()
        self._loop.check()
        try:
            yield self._client
        except RuntimeError as error:
            if not is_of_another_loop(error):
                raise
            raise UnsupportedOperation(
                "the given client is still bound to an event loop that has ended: close it before its loop ends, make "
                "one for each loop, or open the saver with a URL, which serves all of them"
            ) from error


def close_idle(client: Any) -> None:
    """Close the connections of a blocking client that no call is using."""
    if isinstance(client, RedisCluster):
        pools = [node.redis_connection.connection_pool for node in client.get_nodes() if node.redis_connection]
    else:
        pools = [client.connection_pool]
    for pool in pools:
        try:
            pool.disconnect(inuse_connections=False)
        except TypeError:  # a BlockingConnectionPool of redis-py 6 cannot do that
            for connection in filter(None, [*pool.pool.queue]):
                connection.disconnect()


def _blocking_client(deployment: Deployment) -> Any:
    options = _without_retries(deployment.options, Retry)
    if deployment.is_cluster:
        return RedisCluster(startup_nodes=[ClusterNode(*node) for node in deployment.nodes], **options)
    if deployment.service is not None:
        sentinel_options = _without_retries(deployment.sentinel_options, Retry)
        sentinels: Any = _Sentinels(deployment.nodes, sentinel_kwargs=sentinel_options, **options)  # type: ignore[no-untyped-call]
        return sentinels.master_for(deployment.service)
    return redis.Redis(**options)


def _async_client(deployment: Deployment) -> Any:
    retry = redis.asyncio.retry.Retry
    options = _without_retries(deployment.options, retry)
    if deployment.is_cluster:
        return AsyncRedisCluster(startup_nodes=[AsyncClusterNode(*node) for node in deployment.nodes], **options)
    if deployment.service is not None:
        sentinel_options = _without_retries(deployment.sentinel_options, retry)
        sentinels: Any = _AsyncSentinels(deployment.nodes, sentinel_kwargs=sentinel_options, **options)  # type: ignore[no-untyped-call]
        return sentinels.master_for(deployment.service)
    return redis.asyncio.Redis(**options)


def _without_retries(options: dict[str, Any], retry: Any) -> dict[str, Any]:
    # The saver repeats requests itself, up to its deadline.
    return {"retry": retry(NoBackoff(), 0), **options}


class _Sentinels(Sentinel):
    """Sentinels that say why there is no master. redis-py's message shows its clients instead, and no cause."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        failures: dict[Any, RedisError] = {}
        for sentinel in self.sentinels:
            try:
                masters = sentinel.sentinel_masters()
            except (ConnectionError, TimeoutError) as error:
                failures[sentinel] = error
                continue
            if address := _address_of_master(self, masters, service_name):
                self.sentinels = _first(sentinel, self.sentinels)
                return address
        raise _no_master(service_name, failures, len(self.sentinels))


class _AsyncSentinels(AsyncSentinel):
    """`_Sentinels`, for an event loop."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        failures: dict[Any, RedisError] = {}
        for sentinel in self.sentinels:
            try:
                masters = await sentinel.sentinel_masters()
            except (ConnectionError, TimeoutError) as error:
                failures[sentinel] = error
                continue
            if address := _address_of_master(self, masters, service_name):
                self.sentinels = _first(sentinel, self.sentinels)
                return address
        raise _no_master(service_name, failures, len(self.sentinels))


def _address_of_master(asked: Sentinel | AsyncSentinel, masters: Any, service_name: str) -> tuple[str, int] | None:
    found = masters.get(service_name)
    return (found["ip"], found["port"]) if found and asked.check_master_state(found, service_name) else None


def _first(sentinel: Any, sentinels: list[Any]) -> list[Any]:
    """The Sentinel that knows the master is asked first from now on: others may be silent, and each takes seconds."""
    return [sentinel, *(each for each in sentinels if each is not sentinel)]


def _no_master(service_name: str, failures: dict[Any, RedisError], asked: int) -> RedisError:
    if len(failures) < asked:
        silent = f" (Sentinels that do not answer: {len(failures)} of {asked})" if failures else ""
        return MasterNotFoundError(f"no Sentinel names a master of {service_name!r} that is up{silent}")
    sentinel, error = next(iter(failures.items()))
    address = sentinel.connection_pool.connection_kwargs
    return type(error)(f"Sentinel {address['host']}:{address['port']}: {error}")


def _close_client(client: Any) -> None:
    for sentinel in _sentinels(client):
        sentinel.close()
    client.close()


async def _aclose_client(made: tuple[Any, Turns]) -> None:
    client = made[0]
    for sentinel in _sentinels(client):
        await sentinel.aclose()
    await client.aclose()


def _abandon_client(made: tuple[Any, Turns]) -> None:
    """Free the sockets of a client whose loop has ended: redis-py closes connections only on their loop."""
    client = made[0]
    if isinstance(client, AsyncRedisCluster):
        client._initialize = True  # as its own `aclose` leaves it, or it would warn that it was not closed
    for connection in _connections(client):
        writer = getattr(connection, "_writer", None)
        if writer is None:
            continue
        connection._writer = connection._reader = None
        socket = getattr(writer.transport, "_sock", None)
        try:
            writer.transport.abort()
        except RuntimeError:  # the loop is closed, so it will not call the transport to close its socket
            writer.transport._sock = None
        if socket is not None:
            socket.close()


def _connections(client: Any) -> list[Any]:
    if isinstance(client, AsyncRedisCluster):
        manager = client.nodes_manager
        nodes = (*manager.nodes_cache.values(), *manager.startup_nodes.values())  # equal names, different objects
        return [connection for node in nodes for connection in node._connections]
    pools = [client.connection_pool, *(sentinel.connection_pool for sentinel in _sentinels(client))]
    return [connection for pool in pools for connection in (*pool._available_connections, *pool._in_use_connections)]


def _sentinels(client: Any) -> list[Any]:
    """The clients of the Sentinels that a client asks for its master, if it asks any."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return [] if manager is None else manager.sentinels
