"""The saver on Redis, and how a URL opens it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Self, TypeAlias, Unpack

import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.saver import CheckpointSaver, SaverOptions
from checkpoint_base.urls import OptionReader, number, seconds, switch, take_options, text
from checkpoint_redis.connections import Clients, GivenClient, OwnClients
from checkpoint_redis.store import RedisStore
from checkpoint_redis.transport import RedisTransport
from checkpoint_redis.urls import parse_deployment

Client: TypeAlias = "redis.Redis | redis.RedisCluster | redis.asyncio.Redis | AsyncRedisCluster"

DEFAULT_PREFIX = "checkpoints"

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

_URL_OPTIONS: Mapping[str, OptionReader] = {
    "prefix": text,
    "ttl": seconds,
    "refresh_on_read": switch,
    "replicas": partial(number, least=0),
}


class RedisSaver(CheckpointSaver):
    """A `CheckpointSaver` on Redis 6.2 or newer, or Valkey: one server, Sentinel or Cluster, without modules.

    What an acknowledged write survives is up to the server's settings: see docs/redis.md.

    Args:
        connection: a URL as in `from_conn_string`, or a client of redis-py, which stays open. Here, a URL's query holds
            redis-py's options only; our own (``prefix``, ``ttl`` and so on) are refused, because `from_conn_string`
            and `open_saver` read them, not this constructor. A blocking client serves async calls on threads; an async
            client serves async calls only, on its own event loop.
        prefix: what every key begins with; savers with different prefixes share nothing.
        ttl: how many seconds after its last write a thread expires, all of it at once; None for never. The saver that
            writes last decides, so one without a ttl makes a thread stay.
        refresh_on_read: whether reading a thread puts its expiry off, too; listings of all threads never do.
        replicas: how many replicas must confirm a write before it is acknowledged (``WAIT``); 0 in a cluster.
        options: those of `CheckpointSaver`.

    Raises:
        UnsupportedOperation: one of these cannot be used.
    """

    def __init__(
        self,
        connection: str | Client,
        *,
        prefix: str = DEFAULT_PREFIX,
        ttl: float | None = None,
        refresh_on_read: bool = False,
        replicas: int = 0,
        **options: Unpack[SaverOptions],
    ) -> None:
        clients: Clients = (
            OwnClients(parse_deployment(connection)) if isinstance(connection, str) else GivenClient(connection)
        )
        if not _PREFIX.fullmatch(prefix):
            raise UnsupportedOperation(f"prefix={prefix!r}: use 1 to 128 letters, digits and any of _ . : -")
        if ttl is not None and not (isinstance(ttl, int | float) and ttl is not True and 0 < ttl < 10**9):
            raise UnsupportedOperation(f"ttl={ttl!r}: give a number of seconds above 0, or None")
        if refresh_on_read and ttl is None:
            raise UnsupportedOperation("refresh_on_read needs a ttl= to refresh threads with")
        if replicas < 0 or (replicas and clients.is_cluster):
            raise UnsupportedOperation(f"replicas={replicas!r}: give a number of replicas, 0 in a cluster")
        transport = RedisTransport(clients, replicas=replicas)
        super().__init__(RedisStore(transport, prefix=prefix, ttl=ttl, refresh_on_read=refresh_on_read), **options)

    @classmethod
    def from_conn_string(cls, conn_string: str, **options: Any) -> Self:
        """Return a saver for ``with`` or ``async with``, which set it up and close it.

        Args:
            conn_string: one of

                - ``redis://user:password@host:6379/0``, with TLS ``rediss://``; ``unix:///path/to/redis.sock``
                - ``redis+cluster://host1:6379,host2:6379``: any of the cluster's servers
                - ``redis+sentinel://host1:26379,host2:26379/service``, with ``/0`` after the service for a database.
                  User and password are the servers'; the Sentinels' own are the options ``sentinel_username`` and
                  ``sentinel_password``.

                The query takes ``prefix``, ``ttl``, ``refresh_on_read`` and ``replicas`` as in `RedisSaver`, and
                redis-py's options, such as ``socket_timeout``.
            options: arguments of `RedisSaver`.
        """
        url, options = take_options(conn_string, _URL_OPTIONS, options)
        return cls(url, **options)
