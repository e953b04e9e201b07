"""Callers find the server that is the master now, and are told when they look for one in the wrong way."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import redis as redis_py
from redis.connection import Connection
from redis.exceptions import TimeoutError as RedisTimeoutError

from checkpoint_base import StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_redis import RedisSaver, transport
from checkpoint_redis.connections import close_idle
from tests.faults.proxy import Proxy
from tests.redis.conftest import aput, config_of, eventually, put, values_of
from tests.servers.processes import HOST, Server, arrived
from tests.servers.redis import (
    SERVICE,
    SLOTS,
    Watched,
    asked,
    installations,
    place,
    redis,
    redis_cluster,
    redis_sentinel,
)

COLOURS = ["sync", "async"]


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


class OlderPool(redis_py.BlockingConnectionPool):
    """As of redis-py 6."""

    def disconnect(self) -> None:  # type: ignore[override]
        for connection in self._connections:
            connection.disconnect()


@pytest.mark.parametrize("kind", [redis_py.ConnectionPool, redis_py.BlockingConnectionPool, OlderPool])
def test_only_connections_that_no_call_is_using_are_closed(redis_url: str, kind: Any) -> None:
    with redis_py.Redis(connection_pool=kind.from_url(redis_url)) as client:
        used, idle = (client.connection_pool.get_connection() for _ in range(2))
        client.connection_pool.release(idle)
        used.send_command("PING")
        close_idle(client)
        assert used.read_response() in (b"PONG", "PONG")
        assert idle._sock is None


# One address, as hosted Redis has it, behind which another server becomes the master


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("version", "given"), [(0, False), (-1, True)], ids=["oldest, url", "newest, client"])
def test_a_server_that_has_become_a_replica_is_left_for_the_one_behind_its_address(
    version: int, colour: str, given: bool
) -> None:
    installation = installations("Redis")[version]
    with ExitStack() as stack:
        first, second = (port_of(stack.enter_context(redis(installation=installation))) for _ in range(2))
        proxy = stack.enter_context(Proxy(HOST, first))
        url = f"redis://{proxy.host}:{proxy.port}"

        def swap() -> None:
            """Connections stay, and only new ones come to the new master."""
            asked(second, f"REPLICAOF {HOST} {first}")
            eventually(lambda: "master_link_status:up" in asked(second, "INFO replication"))
            asked(second, "REPLICAOF NO ONE")
            asked(first, f"REPLICAOF {HOST} {second}")
            proxy.target = (HOST, second)

        async def async_calls() -> None:
            client: Any = redis_py.asyncio.Redis.from_url(url) if given else None
            async with RedisSaver(client or url, deadline=30) as saver:
                await asyncio.gather(*(aput(saver, {"n": n}, config_of(f"t{n}")) for n in range(5)))
                swap()
                await asyncio.gather(*(aput(saver, {"n": -n}, config_of(f"t{n}")) for n in range(5)))
            if client:
                await client.aclose()

        if colour == "async":
            asyncio.run(async_calls())
        else:
            with redis_py.Redis.from_url(url) if given else nullcontext(url) as opened:
                saver = stack.enter_context(RedisSaver(opened, deadline=30))
                put(saver, {"n": 1}, config_of("t1"))
                swap()
                saver.prune(["t1", "t2"])  # several calls in one request
                for number in range(5):
                    put(saver, {"n": -number}, config_of(f"t{number}"))
        with RedisSaver(f"redis://{HOST}:{second}") as reader:
            assert [values_of(reader, config_of(f"t{n}")) for n in range(5)] == [{"n": -n} for n in range(5)]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_master_that_sentinel_holds_for_down_is_not_asked(colour: str) -> None:
    with redis_sentinel(replicas=0) as watched:
        [pid] = watched.pids.values()
        os.kill(pid, signal.SIGSTOP)
        try:
            eventually(lambda: "o_down" in str(asked(watched.sentinel, "SENTINEL MASTERS")))
            saver = RedisSaver(f"{watched.url}?socket_timeout=1", deadline=0)
            with pytest.raises(StoreUnavailable, match=r"no Sentinel names a master of .* that is up"):
                saver.setup() if colour == "sync" else asyncio.run(saver.asetup())
            saver.close()
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_sentinel_that_says_nothing_is_asked_once(watched_server: Watched, prefix: str) -> None:
    with (
        socket.create_server((HOST, 0), backlog=50) as silent,
        redis_py.Redis(port=watched_server.master()) as admin,
    ):
        sentinels = f"{HOST}:{silent.getsockname()[1]},{HOST}:{watched_server.sentinel}"
        options = f"prefix={prefix}&client_name={prefix}&socket_timeout=0.3"
        with open_saver(f"redis+sentinel://{sentinels}/{SERVICE}?{options}") as saver:
            for number in range(3):
                put(saver, {"n": number}, config_of("thread"))
                [ours] = [client["id"] for client in admin.client_list() if client["name"] == prefix]
                admin.client_kill_filter(_id=ours)  # so the next call needs a new connection
        assert arrived(silent) == 1


# Clusters


@contextmanager
def cluster_with_a_replica() -> Iterator[tuple[str, int]]:
    """Three masters, of which the first has a replica: the URL of the cluster, and that first one's process."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(place()) for _ in range(4)]
        ports = [node.port for node in nodes]
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        servers = [stack.enter_context(node.started(*options)) for node in nodes]
        share = -(-SLOTS // 3)
        for number, port in enumerate(ports):
            assert asked(port, f"CLUSTER SET-CONFIG-EPOCH {number + 1}") == "OK"
            if slots := range(number * share, min((number + 1) * share, SLOTS)):
                assert asked(port, f"CLUSTER ADDSLOTS {' '.join(map(str, slots))}") == "OK"
            assert asked(port, f"CLUSTER MEET {HOST} {ports[0]}") == "OK"
        order = f"CLUSTER REPLICATE {asked(ports[0], 'CLUSTER MYID')}"
        eventually(lambda: bool(asked(ports[3], order) == "OK"))
        eventually(lambda: "state=online" in asked(ports[0], "INFO replication"))
        eventually(lambda: all("cluster_state:ok" in asked(port, "CLUSTER INFO") for port in ports))
        yield f"redis+cluster://{','.join(f'{HOST}:{port}' for port in ports)}?socket_timeout=1", servers[0].pid


def has_a_replica_that_has_all(port: int) -> bool:
    said = asked(port, "INFO replication")
    return set(re.findall(r"state=online,offset=(\d+)", said)) == set(re.findall(r"master_repl_offset:(\d+)", said))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("end", "given"), [(signal.SIGKILL, False), (signal.SIGSTOP, True)], ids=["killed, url", "stopped, client"]
)
def test_whoever_only_lists_finds_the_replica_that_took_over(end: signal.Signals, colour: str, given: bool) -> None:
    with cluster_with_a_replica() as (url, pid), ExitStack() as stack:
        with open_saver(url) as writer:
            for number in range(30):
                put(writer, {"n": number}, config_of(f"t{number}"))

        def strike() -> None:
            eventually(lambda: has_a_replica_that_has_all(int(url.partition(",")[0].rpartition(":")[2])))
            os.kill(pid, end)
            stack.callback(os.kill, pid, signal.SIGCONT if end == signal.SIGSTOP else 0)

        options = {"port": int(url.partition("?")[0].rpartition(":")[2]), "socket_timeout": 1}

        async def async_list() -> int:
            client: Any = redis_py.asyncio.RedisCluster(host=HOST, **options) if given else None
            async with RedisSaver(client or url, deadline=60) as saver:
                assert len([thread async for thread in saver.athreads()]) == 30
                strike()
                found = len([thread async for thread in saver.athreads()])
            if client:
                await client.aclose()
            return found

        if colour == "async":
            assert asyncio.run(async_list()) == 30
            return
        with redis_py.RedisCluster(host=HOST, **options) if given else nullcontext(url) as opened:
            saver = stack.enter_context(RedisSaver(opened, deadline=60))
            assert len(list(saver.threads())) == 30
            strike()
            assert len(list(saver.threads())) == 30


def test_a_listing_waits_once_for_a_server_of_a_cluster_that_says_nothing(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_response, stopped, waited = Connection.read_response, [], []

    def reading(connection: Any, *args: Any, **options: Any) -> Any:
        if stopped:  # until then, a busy machine is given its time
            connection._sock.settimeout(0.3)
        try:
            return read_response(connection, *args, **options)
        except RedisTimeoutError:
            waited.append(connection)
            raise

    monkeypatch.setattr(Connection, "read_response", reading)
    with redis_cluster() as server:
        url = f"{server.url}?prefix={prefix}"
        with open_saver(url, deadline=0) as saver:
            put(saver, {"a": 1})
            assert len(list(saver.threads())) == 1
            os.kill(server.pid, signal.SIGSTOP)
            stopped.append(server.pid)
            try:
                with pytest.raises(StoreUnavailable):
                    list(saver.threads())
            finally:
                os.kill(server.pid, signal.SIGCONT)
    # For its answer, and when it is asked for the map of the cluster; not for each of the buckets that it has.
    assert 1 <= len(waited) <= 3


def test_a_server_of_a_cluster_is_not_taken_for_one_alone(cluster_server: Server, prefix: str) -> None:
    host = cluster_server.url.partition("://")[2].partition(",")[0]

    def use(saver: RedisSaver) -> None:
        for number in range(30):
            put(saver, {"n": number}, config_of(f"t{number}"))

    async def use_async() -> None:
        async with RedisSaver(f"redis://{host}", prefix=prefix) as saver:
            await aput(saver, {"n": 1})

    with redis_py.Redis.from_url(f"redis://{host}") as client:
        for act in (
            lambda: use(RedisSaver(f"redis://{host}", prefix=prefix)),
            lambda: use(RedisSaver(client, prefix=prefix)),
            lambda: asyncio.run(use_async()),
        ):
            with pytest.raises(UnsupportedOperation, match=r"part of a Cluster.*redis\+cluster://.*RedisCluster"):
                act()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_server_alone_is_not_taken_for_a_cluster(redis_url: str, colour: str) -> None:
    saver = RedisSaver(f"redis+cluster://{redis_url.partition('://')[2].partition('/')[0]}")
    act = saver.setup if colour == "sync" else lambda: asyncio.run(saver.asetup())
    with pytest.raises(UnsupportedOperation, match=r"Cluster mode is not enabled .*redis://"):
        act()


WRITES: dict[str, Callable[[RedisSaver, Any], Any]] = {
    "put": lambda saver, _: put(saver, {"a": 2}, config_of("thread")),
    "put_writes": lambda saver, config: saver.put_writes(config, [("a", 1)], "task"),
    "copy_thread": lambda saver, _: saver.copy_thread("thread", "copy"),
    "prune": lambda saver, _: saver.prune(["thread"]),
    "delete_for_runs": lambda saver, _: saver.delete_for_runs(["run"]),
    "delete_thread": lambda saver, _: saver.delete_thread("thread"),
}


@pytest.mark.parametrize("act", WRITES)
def test_whatever_writes_waits_for_replicas_and_reading_does_not(
    act: str, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "WAIT_MS", 1)
    with RedisSaver(redis_url, prefix=prefix) as writer:
        config = put(writer, {"a": 1}, config_of("thread"))
    with RedisSaver(redis_url, prefix=prefix, replicas=1, deadline=0) as saver:
        with pytest.raises(StoreUnavailable, match=r"0 replica\(s\) confirmed"):
            WRITES[act](saver, config)
        saver.get_tuple(config)
        saver.get_delta_channel_history(config=config, channels=["a"])
        for listing in (saver.list(config), saver.history(config), saver.threads(), saver.interrupts()):
            list(listing)


def test_setting_up_waits_for_replicas(redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT_MS", 1)
    saver = RedisSaver(redis_url, prefix=prefix, replicas=1, deadline=0)
    with pytest.raises(StoreUnavailable, match=r"0 replica\(s\) confirmed"):
        saver.setup()
    saver.close()


def test_as_many_replicas_must_confirm_as_were_asked_for(
    watched_server: Watched, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_saver(watched_server.url, prefix=prefix, replicas=1) as saver:
        put(saver, {"a": 1}, config_of("thread"))
    monkeypatch.setattr(transport, "WAIT_MS", 1000)
    with (
        open_saver(watched_server.url, prefix=prefix, replicas=2, deadline=0) as saver,
        pytest.raises(StoreUnavailable, match=r"only 1 replica\(s\) confirmed it within 1 seconds, not 2"),
    ):
        put(saver, {"a": 2}, config_of("thread"))


@pytest.mark.parametrize("kind", ["Redis", "Valkey"])
def test_a_write_that_is_repeated_on_another_connection_waits_for_replicas_too(
    kind: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt has done everything, so the second writes nothing that replicas could confirm."""
    monkeypatch.setattr(transport, "WAIT_MS", 20_000)
    with redis_sentinel(patience=60, installation=installations(kind)[-1]) as watched, ExitStack() as stack:

        def connected() -> RedisSaver:
            return stack.enter_context(RedisSaver(watched.url, prefix=prefix, replicas=1, deadline=0))

        put(connected(), {"a": 1})
        one, other, asynchronous = (connected() for _ in range(3))
        replica = next(pid for port, pid in watched.pids.items() if port != watched.master())
        os.kill(replica, signal.SIGSTOP)
        try:
            monkeypatch.setattr(transport, "WAIT_MS", 200)
            for saver in (one, other):
                with pytest.raises(StoreUnavailable, match=r"0 replica\(s\) confirmed"):
                    saver.delete_thread("thread")
            with pytest.raises(StoreUnavailable, match=r"0 replica\(s\) confirmed"):
                asyncio.run(asynchronous.adelete_thread("thread"))
        finally:
            os.kill(replica, signal.SIGCONT)
