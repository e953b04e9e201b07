"""How a saver on Redis is opened: URLs, clients of the user's, options, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import redis.asyncio as aredis
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection
from redis.sentinel import Sentinel

from checkpoint_base import SchemaMismatch, StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_redis import RedisSaver
from checkpoint_redis.urls import parse_deployment
from tests.forking import done_in_a_fork
from tests.redis.conftest import CONFIG, aput, config_of, eventually, put, values_of
from tests.servers.certificates import certificate
from tests.servers.processes import HOST, Server, free_port
from tests.servers.redis import SERVICE, Watched, redis, redis_cluster, redis_sentinel, with_tls


def hosts_of(server: Server) -> list[tuple[str, int]]:
    hosts = server.url.partition("://")[2].split(",")
    return [(host, int(port)) for host, _, port in (each.partition(":") for each in hosts)]


# URLs


@pytest.fixture(params=["redis", "cluster", "sentinel", "unix", "TLS", "TLS cluster", "TLS Sentinel"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    urls: dict[str, Callable[[], str]] = {
        "redis": lambda: request.getfixturevalue("redis_url"),
        "cluster": lambda: request.getfixturevalue("cluster_server").url,
        "sentinel": lambda: request.getfixturevalue("watched_server").url,
        "unix": lambda: f"unix://{request.getfixturevalue('socket_path')}?db=1",
    }
    if request.param in urls:
        yield urls[request.param]()
    else:
        with speaking_tls(request.param, tmp_path) as url:
            yield url


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[str]:
    path = f"/tmp/checkpoints-{os.getpid()}.sock"  # a path in tmp_path is longer than a socket's may be
    with redis("--unixsocket", path):
        yield path


@contextmanager
def speaking_tls(kind: str, folder: Path, host: str = HOST) -> Iterator[str]:
    """The URL of servers whose certificate nobody knows but those who read it from the file that the URL names."""
    known = certificate(folder, "server", host)
    with ExitStack() as stack:
        if kind == "TLS":
            port = free_port()
            stack.enter_context(redis(*with_tls(known, port)))
            url = f"rediss://{HOST}:{port}/0"
        elif kind == "TLS cluster":
            url = stack.enter_context(redis_cluster(certificate=known)).url
        else:
            url = stack.enter_context(redis_sentinel(patience=60, certificate=known)).url
        yield f"{url}?ssl_ca_certs={known[0]}"


def with_prefix(url: str, prefix: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}prefix={prefix}"


def test_every_url_opens_in_both_colours(any_url: str, prefix: str) -> None:
    url = with_prefix(any_url, prefix)
    with RedisSaver.from_conn_string(url) as saver:
        put(saver, {"a": 1})

    async def read_and_write() -> Any:
        async with RedisSaver.from_conn_string(url) as saver:
            found = await saver.aget_tuple(CONFIG)
            await aput(saver, {"a": 2})
            return found

    assert asyncio.run(read_and_write()).checkpoint["channel_values"] == {"a": 1}
    with open_saver(url) as reader:
        assert values_of(reader) == {"a": 2}


def refused(url: str) -> list[str]:
    """What a saver says that cannot be set up, in both colours, and not after its 30 seconds but at once."""
    saver = open_saver(url)
    with pytest.raises(UnsupportedOperation) as by_sync_call:
        saver.setup()
    with pytest.raises(UnsupportedOperation) as by_async_call:
        asyncio.run(saver.asetup())
    saver.close()
    return [str(by_sync_call.value), str(by_async_call.value)]


@pytest.mark.parametrize("kind", ["TLS", "TLS cluster", "TLS Sentinel"])
def test_a_certificate_that_is_not_trusted_is_told_at_once_and_not_taken_for_a_server_that_is_away(
    kind: str, tmp_path: Path
) -> None:
    with speaking_tls(kind, tmp_path) as url:
        for said in refused(url.partition("?")[0]):
            assert re.search(r"certificate verify failed.*ssl_ca_certs", said)


@pytest.mark.parametrize("kind", ["TLS", "TLS cluster", "TLS Sentinel"])
def test_a_certificate_of_another_host_is_refused_unless_none_is_asked_for(kind: str, tmp_path: Path) -> None:
    with speaking_tls(kind, tmp_path, host="another.example") as url:
        for said in refused(url):
            assert re.search(r"certificate verify failed.*mismatch", said)
        with open_saver(f"{url}&ssl_cert_reqs=none") as saver:
            put(saver, {"a": 1})
            assert values_of(saver) == {"a": 1}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ssl_ca_certs=/nowhere", "ssl_ca_certs.*No such file"),
        ("ssl_ca_certs={key}", "ssl_ca_certs.*no certificate"),
        ("ssl_certfile=/nowhere&ssl_keyfile={key}", "ssl_certfile.*No such file"),
        ("ssl_certfile={certificate}&ssl_keyfile=/nowhere", "ssl_keyfile.*No such file"),
        ("ssl_keyfile={key}", "ssl_certfile.*name a certificate"),
        ("ssl_certfile={certificate}&ssl_keyfile={certificate}", "ssl_keyfile.*PEM"),
        ("ssl_certfile={certificate}&ssl_keyfile={other}", "ssl_keyfile.*(?i:mismatch)"),
        ("ssl_ciphers=nothing", "ssl_ciphers.*cipher"),
    ],
    ids=lambda given: given.partition(".*")[0],
)
@pytest.mark.parametrize("scheme", ["rediss", "rediss+cluster", "rediss+sentinel"])
def test_a_certificate_that_cannot_be_read_is_told_when_the_saver_is_made(
    scheme: str, query: str, said: str, tmp_path: Path
) -> None:
    ours, key = certificate(tmp_path, "ours", HOST)
    _, other = certificate(tmp_path, "other", HOST)
    path = "/service" if scheme == "rediss+sentinel" else ""
    query = query.format(certificate=ours, key=key, other=other)
    with pytest.raises(UnsupportedOperation, match=said) as raised:
        open_saver(f"{scheme}://{HOST}:1{path}?{query}")
    assert str(tmp_path) not in str(raised.value)  # as nothing of a URL is quoted


def test_a_password_that_a_cluster_refuses_is_told_at_once(cluster_server: Server) -> None:
    for said in refused(cluster_server.url.replace("://", "://nobody:wrong@")):
        assert re.match(r"Redis refuses this user or password: .*invalid username-password pair.*Check the URL", said)


def test_a_password_that_the_sentinel_refuses_is_told_at_once(watched_server: Watched) -> None:
    for said in refused(f"{watched_server.url}?sentinel_username=nobody&sentinel_password=wrong"):
        assert re.match(r"Redis refuses this user or password: Sentinel 127\.0\.0\.1:\d+: [^.]*\. Check the URL", said)


async def unavailable(url: str) -> list[str]:
    """What a saver says whose store cannot be reached, in both colours."""
    saver = open_saver(url, deadline=0)
    with pytest.raises(StoreUnavailable) as by_sync_call:
        saver.setup()
    with pytest.raises(StoreUnavailable) as by_async_call:
        await saver.asetup()
    await saver.aclose()
    return [str(by_sync_call.value), str(by_async_call.value)]


def test_why_there_is_no_master_is_said_with_the_address_of_the_sentinel(watched_server: Watched) -> None:
    here = watched_server.url.partition("://")[2].partition("/")[0]
    away = f"{HOST}:{free_port()}"
    for said in asyncio.run(unavailable(f"redis+sentinel://{away}/{SERVICE}")):
        assert re.fullmatch(rf"Redis: Sentinel {away}: Error 111 connecting to {away}\. [^<>]{{,60}}", said)
    expected = "Redis: no Sentinel names a master of 'other' that is up (Sentinels that do not answer: 1 of 2)"
    assert asyncio.run(unavailable(f"redis+sentinel://{away},{here}/other")) == [expected, expected]


def test_the_database_of_a_url_is_the_one_that_is_used(redis_url: str, watched_server: Watched, prefix: str) -> None:
    for server in (redis_url.rpartition("/")[0], watched_server.url):
        with open_saver(f"{server}/3?prefix={prefix}") as third, open_saver(f"{server}?prefix={prefix}") as other:
            put(third, {"a": 3})
            assert values_of(third) == {"a": 3}
            assert values_of(other) is None
    with pytest.raises(UnsupportedOperation, match="DB index is out of range: correct the number"):
        open_saver(f"{redis_url.rpartition('/')[0]}/99").setup()


def test_user_and_password_of_a_url_are_used_and_never_shown(prefix: str) -> None:
    password = "p@ss:w/rd?#"
    quoted = "p%40ss%3Aw%2Frd%3F%23"
    with redis() as server:
        with redis_py.Redis.from_url(server.url) as admin:
            admin.acl_setuser("app", enabled=True, keys=["*"], commands=["+@all"], passwords=[f"+{password}"])
        place_ = server.url.partition("://")[2]
        with open_saver(f"redis://app:{quoted}@{place_}") as saver:
            put(saver, {"a": 1})
            assert values_of(saver) == {"a": 1}
            shown = repr(parse_deployment(f"redis://app:{quoted}@{place_}"))
            assert password not in shown
            assert quoted not in shown
        with (
            pytest.raises(UnsupportedOperation, match="user or password") as refused,
            open_saver(f"redis://app:wrong-{quoted}@{place_}"),
        ):
            pass
        assert "wrong" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://localhost:port", "port"),
        ("redis://localhost/0?nonsense=1", "nonsense"),
        ("redis://one,two", r"redis\+cluster:// or redis\+sentinel://"),
        ("redis://localhost?socket_timeout=soon", "socket_timeout"),
        ("redis://localhost?protocol=4", "protocol"),
        ("redis://localhost?max_connections=0", "max_connections=0: write a whole number"),
        ("redis+cluster://localhost?max_connections=-1", "max_connections=-1: write a whole number"),
        ("redis://localhost/app", "number of a database"),
        ("redis+cluster://localhost/1", "no databases"),
        ("redis+cluster://localhost:70000", "not a host with a port"),
        ("redis+cluster://one,,two", "not a host with a port"),
        ("redis+sentinel://localhost", "name the service"),
        ("redis+sentinel://localhost/service/first", "name the service"),
        ("redis+other://localhost", "a URL of Redis begins with"),
        ("unix+cluster:///tmp/a.sock", "a URL of Redis begins with"),
        ("memcached://localhost", "a URL of Redis begins with"),
        ("localhost:6379", "a URL of Redis begins with"),
        ("redis://user:71#34@localhost/0", "write %23 for a #"),
        ("redis+cluster://user:71#34@one:1,two:2", "write %23 for a #"),
        ("redis+sentinel://user:71#34@one:1/service", "write %23 for a #"),
        ("redis+sentinel://one:1/service#other", "write %23 for a #"),
        ("unix:///tmp/a#.sock", "write %23 for a #"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_before_anything_is_connected_to(url: str, says: str) -> None:
    with pytest.raises(UnsupportedOperation, match=says) as refused:
        RedisSaver.from_conn_string(url)
    assert "71" not in str(refused.value)  # nothing that may belong to a password


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hun/ter2@host:6379/0",
        "redis://user:hun?ter2@host:6379/0",
        "redis://user:hun#ter2@host:6379/0",
        "redis://user:hunter2:6379/0",
        "redis://user:hun/ter2@host:6379/app",
        "redis://user:hunter2@one:1,two:2/0",
        "rediss://:hun[ter2@host:6379/0",
        "redis+cluster://user:hun/ter2@one:1,two:2",
        "redis+cluster://user:hun?ter2@one:1",
        "redis+cluster://user:hun#ter2@one:1",
        "redis+cluster://user:hunter2:6379",
        "redis+sentinel://user:hun/ter2@one:1/service",
        "redis+sentinel://user:hun#ter2@one:1/service",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_not_shown(url: str) -> None:
    for opened in (RedisSaver.from_conn_string, open_saver):
        with pytest.raises(UnsupportedOperation) as refused:
            opened(url)
        said = f"{refused.value} {refused.value.__cause__}"
        assert not [part for part in ("hun", "ter2") if part in said], said


# Clients


def sync_client(cluster: bool, url: str, server: Server, **options: Any) -> Any:
    if cluster:
        return RedisCluster(startup_nodes=[ClusterNode(*host) for host in hosts_of(server)], **options)
    return redis_py.Redis.from_url(url, **options)


def async_client(cluster: bool, url: str, server: Server, **options: Any) -> Any:
    if cluster:
        return AsyncRedisCluster(startup_nodes=[AsyncClusterNode(*host) for host in hosts_of(server)], **options)
    return aredis.Redis.from_url(url, **options)


VALUES = {"text": "ä\udcff", "bytes": b"\xff\x00", "list": [{"n": n} for n in range(2000)]}


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decode_responses"])
@pytest.mark.parametrize("cluster", [False, True], ids=["redis", "cluster"])
def test_a_client_that_is_given_serves_both_colours_and_stays_open(
    cluster: bool, decode: bool, redis_url: str, cluster_server: Server, prefix: str
) -> None:
    client = sync_client(cluster, redis_url, cluster_server, decode_responses=decode)
    with RedisSaver(client, prefix=prefix) as saver:
        put(saver, VALUES)
        assert asyncio.run(saver.aget_tuple(CONFIG)).checkpoint["channel_values"] == VALUES
        assert [found.thread_id for found in saver.threads()] == ["thread"]
    with RedisSaver(client, prefix=prefix) as again:
        assert values_of(again) == VALUES
    assert client.ping()
    client.close()


@pytest.mark.parametrize("decode", [False, True], ids=["bytes", "decode_responses"])
@pytest.mark.parametrize("cluster", [False, True], ids=["redis", "cluster"])
def test_an_async_client_that_is_given_serves_async_calls_and_stays_open(
    cluster: bool, decode: bool, redis_url: str, cluster_server: Server, prefix: str
) -> None:
    async def use() -> None:
        client = async_client(cluster, redis_url, cluster_server, decode_responses=decode)
        async with RedisSaver(client, prefix=prefix) as saver:
            await aput(saver, VALUES)
            found = await saver.aget_tuple(CONFIG)
            assert found is not None
            assert found.checkpoint["channel_values"] == VALUES
            assert [found.thread_id async for found in saver.athreads()] == ["thread"]
            # On a thread: LangGraph refuses a blocking call on the loop itself.
            with pytest.raises(UnsupportedOperation, match="async client"):
                await asyncio.to_thread(saver.get_tuple, CONFIG)
        assert await client.ping()
        await client.aclose()

    asyncio.run(use())


@pytest.mark.parametrize("cluster", [False, True], ids=["redis", "cluster"])
def test_an_async_client_that_is_given_must_be_closed_before_its_event_loop_ends(
    cluster: bool, redis_url: str, cluster_server: Server, prefix: str
) -> None:
    """In a process of its own, because such a client is never closed."""

    def use() -> None:
        client = async_client(cluster, redis_url, cluster_server)
        saver = RedisSaver(client, prefix=prefix)

        async def read(*, close: bool) -> None:
            assert await saver.aget_tuple(CONFIG) is None
            if close:
                await client.aclose()

        for close in (True, True, False):
            asyncio.run(read(close=close))
        with pytest.raises(UnsupportedOperation, match="bound to an event loop that has ended: close it"):
            asyncio.run(read(close=True))

    done_in_a_fork(use)


@pytest.mark.parametrize("cluster", [False, True], ids=["redis", "cluster"])
def test_an_async_client_that_is_given_serves_one_event_loop_at_a_time(
    cluster: bool, redis_url: str, cluster_server: Server, prefix: str
) -> None:
    """With two, redis-py fails with errors of asyncio, or a call waits for ever."""
    client = async_client(cluster, redis_url, cluster_server)
    saver = RedisSaver(client, prefix=prefix)

    async def use() -> None:
        await saver.asetup()
        with pytest.raises(UnsupportedOperation, match="in use on another event loop"):
            await asyncio.to_thread(asyncio.run, saver.aget_tuple(CONFIG))
        assert await saver.aget_tuple(CONFIG) is None
        await client.aclose()

    for _ in range(2):
        asyncio.run(use())


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("cluster", [False, True], ids=["redis", "cluster"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_encoding_of_a_given_client_changes_nothing(
    colour: str, cluster: bool, encoding: str, redis_url: str, cluster_server: Server, prefix: str
) -> None:
    values, config = {"réponse": "日本", "n": 1}, config_of("té")

    async def use() -> Any:
        client = async_client(cluster, redis_url, cluster_server, encoding=encoding)
        async with RedisSaver(client, prefix=prefix) as saver:
            await aput(saver, values, config)
            found = await saver.aget_tuple(config)
        await client.aclose()
        return found

    if colour == "async":
        assert asyncio.run(use()).checkpoint["channel_values"] == values
    else:
        client = sync_client(cluster, redis_url, cluster_server, encoding=encoding)
        with RedisSaver(client, prefix=prefix) as saver:
            put(saver, values, config)
            assert values_of(saver, config) == values
        client.close()
    with RedisSaver(cluster_server.url if cluster else redis_url, prefix=prefix) as reader:
        assert values_of(reader, config) == values
        assert [found.thread_id for found in reader.threads()] == ["té"]


def test_a_client_that_sentinels_gave_is_taken(watched_server: Watched, prefix: str) -> None:
    sentinel = Sentinel([(HOST, watched_server.sentinel)])
    client = sentinel.master_for("checkpoints")
    with RedisSaver(client, prefix=prefix) as saver:
        put(saver, {"a": 1})
        assert values_of(saver) == {"a": 1}
    assert client.ping()
    client.close()
    for each in sentinel.sentinels:
        each.close()


@pytest.mark.parametrize(
    "wrong", [None, 6379, object(), redis_py.ConnectionPool()], ids=lambda wrong: type(wrong).__name__
)
def test_what_is_no_client_is_refused(wrong: Any) -> None:
    with pytest.raises(UnsupportedOperation, match="a client or cluster client of redis-py"):
        RedisSaver(wrong)


def test_connections_of_our_own_are_closed_with_the_saver(redis_url: str, raw: Any, prefix: str) -> None:
    def connections() -> int:
        return sum(client["name"] == prefix for client in raw.client_list())

    url = f"{redis_url}?prefix={prefix}&client_name={prefix}"
    saver = open_saver(url)
    put(saver, {"a": 1})
    for _ in range(3):
        asyncio.run(saver.aget_tuple(CONFIG))
    eventually(lambda: connections() == 1)  # that of sync callers
    saver.close()
    eventually(lambda: connections() == 0)  # a server takes a moment to notice
    saver.close()


def test_a_closed_saver_says_so(redis_url: str, prefix: str) -> None:
    with redis_py.Redis.from_url(redis_url) as client:
        for connection in (redis_url, client):
            with RedisSaver(connection, prefix=prefix) as saver:
                put(saver, {"a": 1})
            with pytest.raises(UnsupportedOperation, match="is closed: open another"):
                saver.get_tuple(CONFIG)
            with pytest.raises(UnsupportedOperation, match="is closed: open another"):
                asyncio.run(saver.aget_tuple(CONFIG))
        assert client.ping()

    async def work() -> None:
        async with aredis.Redis.from_url(redis_url) as given:
            async with RedisSaver(given, prefix=prefix) as saver:
                await aput(saver, {"a": 2})
            with pytest.raises(UnsupportedOperation, match="is closed: open another"):
                await saver.aget_tuple(CONFIG)
            assert await given.ping()

    asyncio.run(work())


@pytest.mark.parametrize("place", ["redis", "cluster"])
@pytest.mark.parametrize("goes_on", [True, False], ids=["the loop goes on", "the loop is closed"])
def test_a_saver_that_is_closed_between_two_runs_of_a_loop_frees_its_connections(
    place: str, goes_on: bool, request: pytest.FixtureRequest, prefix: str
) -> None:
    url = request.getfixturevalue("redis_url") if place == "redis" else request.getfixturevalue("cluster_server").url
    complaints: list[Any] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        saver = RedisSaver(url, prefix=prefix)
        assert runner.run(saver.aget_tuple(CONFIG)) is None
        if goes_on:
            saver.close()
            runner.run(asyncio.sleep(0.01))
    saver.close()
    gc.collect()  # a connection that is still open warns, and a warning is a failure
    assert complaints == []


def test_a_forked_process_uses_connections_of_its_own(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": "parent"})

        def child() -> None:
            put(saver, {"a": "child"})
            asyncio.run(saver.aget_tuple(CONFIG))

        done_in_a_fork(child)
        assert values_of(saver) == {"a": "child"}


def test_closing_a_saver_in_a_forked_process_does_not_wait_for_the_loops_of_its_parent(
    redis_url: str, prefix: str
) -> None:
    async def work() -> None:
        async with RedisSaver(redis_url, prefix=prefix) as saver:
            await aput(saver, {"a": 1})
            put(saver, {"a": 2})
            forked = multiprocessing.get_context("fork").Process(target=saver.close)
            forked.start()
            await asyncio.to_thread(forked.join, 60)
            exit_code = forked.exitcode
            forked.kill()
            assert exit_code == 0
            await aput(saver, {"a": 3})
            assert values_of(saver) == {"a": 3}

    asyncio.run(work())


# Options


INTERRUPTED = """
import signal
from checkpoint_redis.connections import OwnClients
from checkpoint_redis.urls import parse_deployment

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
clients = OwnClients(parse_deployment("redis://localhost?max_connections=1000"))
for _ in range(3000):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002)
        for _ in range(1000):
            with clients.lent():
                pass
    except KeyboardInterrupt:
        pass
with clients.lent():
    print("goes on")
"""


def test_no_call_hangs_after_a_signal_handler_raised_in_another() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=100)
    assert done.stdout == "goes on\n", done.stderr


def test_no_call_has_a_number_for_hiredis_to_write(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While hiredis writes a number, an exception that the handler of a signal raises crashes the process."""
    sent: list[tuple[Any, ...]] = []
    send, pack = Connection.send_command, Connection.pack_commands

    def noting_send(self: Connection, *words: Any, **options: Any) -> Any:
        sent.append(words)
        return send(self, *words, **options)

    def noting_pack(self: Connection, commands: Any) -> Any:
        sent.extend(commands)
        return pack(self, commands)

    monkeypatch.setattr(Connection, "send_command", noting_send)
    monkeypatch.setattr(Connection, "pack_commands", noting_pack)
    with RedisSaver.from_conn_string(redis_url, prefix=prefix, ttl=60) as saver:
        put(saver, {"a": "x" * 2_000_000})
        put(saver, {"a": [1]})
        assert len(list(saver.list(None))) == 2
        assert len(list(saver.threads())) == 1
        assert not list(saver.interrupts())
        saver.copy_thread("thread", "copy")
        saver.prune(["thread"])
        saver.delete_for_runs(["run"])
        saver.delete_thread("thread")
    calls = [words for words in sent if words[0] in ("EVAL", "EVALSHA")]
    assert len(calls) > 10
    assert {type(word) for words in calls for word in words} == {str, bytes}


def test_a_url_may_limit_the_connections_and_calls_wait_for_one(any_url: str, prefix: str) -> None:
    url = with_prefix(any_url, prefix) + f"&max_connections=2&client_name={prefix}"

    async def put_many() -> None:
        async with RedisSaver.from_conn_string(url, deadline=0) as saver:
            await asyncio.gather(*(aput(saver, {"a": n}, config_of(f"{n}")) for n in range(10)))

    asyncio.run(put_many())
    with RedisSaver.from_conn_string(url, deadline=0) as saver:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: put(saver, {"a": n}, config_of(f"{n}")), range(10, 20)))
        assert {found.thread_id for found in saver.threads()} == {f"{n}" for n in range(20)}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_call_that_fails_gives_its_connection_back(colour: str, redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver.from_conn_string(f"{redis_url}?prefix={prefix}&max_connections=1", deadline=0) as saver:
        key = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        raw.set(key, "something else")

        async def fail() -> None:
            with pytest.raises(SchemaMismatch):
                await saver.aget_tuple(CONFIG)

        async def use() -> None:
            for _ in range(3):
                await fail()
            raw.delete(key)
            assert await saver.aget_tuple(CONFIG) is None

        if colour == "async":
            asyncio.run(use())
            return
        for _ in range(3):
            with pytest.raises(SchemaMismatch):
                saver.get_tuple(CONFIG)
        raw.delete(key)
        assert saver.get_tuple(CONFIG) is None


def test_a_cluster_may_be_spoken_to_on_one_connection_for_each_server(cluster_server: Server, prefix: str) -> None:
    with RedisSaver.from_conn_string(f"{cluster_server.url}?prefix={prefix}&max_connections=1", deadline=5) as saver:
        for number in range(10):
            put(saver, {"a": number}, config_of(f"t{number}"))
        assert len(list(saver.list(None))) == 10


def test_savers_with_different_prefixes_share_nothing(redis_url: str, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix) as one, RedisSaver(redis_url, prefix=f"{prefix}:thread") as other:
        put(one, {"a": 1})
        assert values_of(other) is None
        assert list(other.threads()) == []
        other.delete_thread("thread")
        assert values_of(one) == {"a": 1}


def test_options_of_a_url_and_arguments_are_the_same(redis_url: str, raw: Any, prefix: str) -> None:
    url = f"{redis_url}?prefix={prefix}&ttl=100&refresh_on_read=true&deadline=3"
    with open_saver(url) as saver, open_saver(redis_url, prefix=prefix, ttl=100, refresh_on_read=True) as same:
        for number, each in enumerate((saver, same)):
            put(each, {"a": 1}, config_of(f"t{number}"))
    times = [raw.pttl(key) for key in raw.scan_iter(match=f"{prefix}*thread*", count=10_000)]
    assert len(times) == 2
    assert all(50_000 < time <= 100_000 for time in times)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prefix": ""}, "prefix="),
        ({"prefix": "a{b}"}, "prefix="),
        ({"prefix": "a*"}, "prefix="),
        ({"prefix": "x" * 129}, "prefix="),
        ({"ttl": 0}, "ttl="),
        ({"ttl": -1}, "ttl="),
        ({"ttl": float("inf")}, "ttl="),
        ({"ttl": float("nan")}, "ttl="),
        ({"ttl": True}, "ttl="),  # would be a second
        ({"ttl": {"default_ttl": 60, "refresh_on_read": True}}, "give a number of seconds above 0"),  # as LangGraph's
        ({"refresh_on_read": True}, "needs a ttl"),
        ({"replicas": -1}, "replicas="),
        ({"deadline": -1}, "deadline="),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedOperation, match=says):
        RedisSaver("redis://localhost", **options)


def test_every_default_can_be_written_into_a_url(redis_url: str, prefix: str) -> None:
    with open_saver(f"{redis_url}?prefix={prefix}&refresh_on_read=false&replicas=0") as saver:
        put(saver, {"a": 1})
        assert values_of(saver) == {"a": 1}


def test_an_option_that_is_given_twice_must_be_the_same(redis_url: str) -> None:
    with pytest.raises(UnsupportedOperation, match="option ttl is 5 as an argument and 6"):
        RedisSaver.from_conn_string(f"{redis_url}?ttl=6", ttl=5)


def test_waiting_for_replicas_is_not_for_a_cluster() -> None:
    with pytest.raises(UnsupportedOperation, match="0 in a cluster"):
        RedisSaver.from_conn_string("redis+cluster://localhost", replicas=1)


# What is there already


def test_a_newer_layout_is_refused_and_left_alone(redis_url: str, raw: Any, prefix: str) -> None:
    raw.set(f"{prefix}:layout", "2 64")
    with pytest.raises(SchemaMismatch, match="upgrade it, or use another prefix"), RedisSaver(redis_url, prefix=prefix):
        pass
    assert raw.get(f"{prefix}:layout") == b"2 64"
    assert raw.keys(f"{prefix}*") == [f"{prefix}:layout".encode()]


def test_a_set_up_that_was_cut_off_is_finished_by_the_next(redis_url: str, raw: Any, prefix: str) -> None:
    with RedisSaver(redis_url, prefix=prefix):
        pass
    raw.set(f"{prefix}:layout", b"creating " + raw.get(f"{prefix}:layout"))
    indexes = sorted(raw.scan_iter(match=f"{prefix}*index", count=10_000))
    raw.delete(*indexes[::2])
    with RedisSaver(redis_url, prefix=prefix) as saver:
        put(saver, {"a": 1})
        assert [found.thread_id for found in saver.threads()] == ["thread"]
    assert sorted(raw.scan_iter(match=f"{prefix}*index", count=10_000)) == indexes
