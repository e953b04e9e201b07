"""What a caller is told when Redis restarts, fails over, or is down."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, TypedDict

import pytest
import redis as redis_py
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Interrupt, interrupt
from redis.asyncio.connection import Connection
from redis.cluster import RedisCluster
from redis.connection import Connection as BlockingConnection
from redis.connection import DefaultParser
from redis.crc import key_slot

from checkpoint_base import CheckpointSaver, CorruptCheckpoint, StoreUnavailable, open_saver
from checkpoint_redis import RedisSaver, connections, transport
from checkpoint_redis.errors import translated
from tests.redis.conftest import CONFIG, config_of, put, values_of
from tests.servers.processes import HOST, Server, arrived, free_port
from tests.servers.redis import place, redis, redis_cluster, redis_sentinel

# Restarts and failovers


class Counted(TypedDict):
    steps: Annotated[list[int], operator.add]


def counting_graph(saver: CheckpointSaver, steps: int, ran: list[int], act: Callable[[int], None]) -> Any:
    """Counts to ``steps``, a super-step each, and does something beside it; then asks."""

    def count(state: Counted) -> Counted:
        number = len(state["steps"])
        act(number)
        ran.append(number)
        return {"steps": [number]}

    builder = StateGraph(Counted)
    builder.add_node("count", count)
    builder.add_node("ask", lambda _: {"steps": [interrupt("go on?")]})
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: "ask" if len(state["steps"]) >= steps else "count")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_graph_runs_through_a_failover_and_no_acknowledged_step_is_lost(colour: str) -> None:
    with (
        redis_sentinel(replicas=2) as watched,
        open_saver(watched.url, replicas=1, deadline=60) as saver,
    ):
        ran: list[int] = []

        def fail_over_at_the_fifth(number: int) -> None:
            if number == 5:
                os.kill(watched.pids[watched.master()], signal.SIGKILL)

        graph = counting_graph(saver, 12, ran, fail_over_at_the_fifth)
        before = watched.master()
        if colour == "sync":
            found = graph.invoke({"steps": []}, CONFIG, durability="sync")
        else:
            found = asyncio.run(graph.ainvoke({"steps": []}, CONFIG, durability="sync"))
        assert watched.master() != before
        assert ran == list(range(12))  # no step was run again
        assert found["steps"] == ran
        with open_saver(watched.url) as reader:
            assert [waiting.value for waiting in reader.interrupts()] == ["go on?"]
            assert len(list(reader.history(CONFIG))) == 14
            graph = counting_graph(reader, 12, ran, lambda _: None)
            assert graph.invoke(Command(resume=99), CONFIG)["steps"] == [*range(12), 99]


def test_a_server_that_restarts_has_kept_what_its_file_has_and_scripts_are_sent_again(prefix: str) -> None:
    persistent = ("--appendonly", "yes", "--appendfsync", "always")
    with place() as alone:
        saver = RedisSaver(f"redis://{HOST}:{alone.port}", prefix=prefix, deadline=30)
        for number in range(3):
            with alone.started(*persistent) as server:
                put(saver, {"n": number})
                assert asyncio.run(saver.aget_tuple(CONFIG)).checkpoint["channel_values"] == {"n": number}
                os.kill(server.pid, signal.SIGKILL)
        with alone.started(*persistent):
            assert [found.checkpoint["channel_values"]["n"] for found in saver.list(CONFIG)] == [2, 1, 0]
        saver.close()


def test_a_cluster_whose_slots_move_meanwhile_is_followed(prefix: str) -> None:
    """The slots of a third of the threads move to another server, key by key, while they are written to."""
    with redis_cluster() as server, RedisSaver(server.url, prefix=prefix, deadline=30) as saver:
        first, second = (int(each.rpartition(":")[2]) for each in server.url.split(",")[:2])
        threads = [config_of(f"t{number}") for number in range(40)]
        for config in threads:
            put(saver, {"n": 0, "long": ["x" * 900] * 20}, config)
        done, failed = threading.Event(), []

        def write() -> None:
            number = 0
            try:
                while not done.is_set() or number < 3:
                    number += 1
                    for config in threads:
                        put(saver, {"n": number, "long": ["x" * 900] * 20}, config)
            except BaseException as error:
                failed.append(error)

        writer = threading.Thread(target=write)
        writer.start()
        moved = move_slots(first, second, prefix)
        done.set()
        writer.join(60)
        assert failed == []
        assert moved > 5
        assert all(values_of(saver, config)["n"] >= 3 for config in threads)
        assert len(list(saver.threads())) == 40


async def listed(items: Any) -> list[Any]:
    return [item async for item in items]


OF_MANY: dict[str, Callable[[RedisSaver], Any]] = {
    "list": lambda saver: list(saver.list(None)),
    "threads": lambda saver: list(saver.threads()),
    "alist": lambda saver: asyncio.run(listed(saver.alist(None))),
    "athreads": lambda saver: asyncio.run(listed(saver.athreads())),
    "interrupts": lambda saver: list(saver.interrupts()),
    "ainterrupts": lambda saver: asyncio.run(listed(saver.ainterrupts())),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["run"]),
    "adelete_for_runs": lambda saver: asyncio.run(saver.adelete_for_runs(["run"])),
}


@contextmanager
def half_moved(server: Server, index: str, key: str) -> Iterator[Callable[[], None]]:
    """One key of an index's slot has moved to another server of a cluster; what is yielded moves the others."""
    with ExitStack() as stack:
        servers = {}
        for each in server.url.partition("://")[2].split(","):
            port = int(each.rpartition(":")[2])
            servers[port] = stack.enter_context(redis_py.Redis(port=port, decode_responses=True))
        slot = key_slot(index.encode())
        [source] = [at for at, each in servers.items() if each.execute_command("CLUSTER COUNTKEYSINSLOT", slot)]
        target = next(port for port in servers if port != source)
        ids = {port: client.execute_command("CLUSTER MYID") for port, client in servers.items()}
        servers[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        servers[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])

        def move(*keys: str) -> None:
            for each in keys:
                servers[source].execute_command("MIGRATE", HOST, target, each, 0, 60_000)

        def finish() -> None:
            move(*servers[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1000))
            for port in (target, *(port for port in servers if port != target)):
                servers[port].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])

        move(key)
        finishing = threading.Timer(0.3, finish)
        try:
            yield finishing.start
        finally:
            finishing.join() if finishing.ident else finish()


def in_one_bucket(saver: RedisSaver, count: int) -> dict[str, tuple[str, str]]:
    """Threads of one bucket, each with its run and a question: their ids, and the keys of thread and index."""
    keys = {name: saver.store._keys(name) for name in (f"t{number}" for number in range(1000))}  # type: ignore[attr-defined]
    names = [name for name in keys if keys[name][1] == keys["t0"][1]][:count]
    for name in names:
        config = put(saver, {"n": name}, config_of(name), {"source": "loop", "step": 1, "run_id": "run"})
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
    return {name: keys[name] for name in names}


@pytest.mark.parametrize("act", OF_MANY)
@pytest.mark.parametrize("moved", ["a thread", "the index"])
def test_a_slot_that_is_half_moved_is_waited_for_and_nothing_in_it_is_lost(
    moved: str, act: str, cluster_server: Server, prefix: str
) -> None:
    with RedisSaver(cluster_server.url, prefix=prefix, deadline=30) as saver:
        stored = in_one_bucket(saver, 5)
        thread, index = stored["t0"]
        with half_moved(cluster_server, index, thread if moved == "a thread" else index) as finish:
            with RedisSaver(cluster_server.url, prefix=prefix, deadline=0.3) as impatient:
                for read in (lambda: values_of(impatient, config_of("t0")), lambda: OF_MANY[act](impatient)):
                    with pytest.raises(StoreUnavailable):
                        read()
            finish()
            found = OF_MANY[act](saver)
        with RedisSaver(cluster_server.url, prefix=prefix) as reader:
            kept = sorted(waiting.thread_id for waiting in reader.threads())
    assert kept == ([] if "delete" in act else sorted(stored))
    assert found is None or len(found) == 5
    assert not any(getattr(each, "error", None) for each in found or ())


LISTINGS_OF_THREADS = ["threads", "athreads", "interrupts", "ainterrupts"]


@pytest.mark.parametrize("act", LISTINGS_OF_THREADS)
def test_a_lost_thread_is_told_from_those_that_are_moving(act: str, cluster_server: Server, prefix: str) -> None:
    with (
        RedisSaver(cluster_server.url, prefix=prefix, deadline=30) as saver,
        RedisCluster.from_url(cluster_server.url.split(",")[0].replace("redis+cluster", "redis")) as client,
    ):
        stored = in_one_bucket(saver, 5)
        lost = [*stored][3]
        assert client.delete(stored[lost][0]) == 1
        index = stored["t0"][1]
        with half_moved(cluster_server, index, index) as finish:
            with (
                RedisSaver(cluster_server.url, prefix=prefix, deadline=0.3) as impatient,
                pytest.raises(StoreUnavailable),
            ):
                OF_MANY[act](impatient)
            finish()
            found = OF_MANY[act](saver)
        assert {each.thread_id for each in found} == stored.keys()
        assert [each.thread_id for each in found if each.error] == [lost]


@pytest.mark.parametrize("thread_id", ["thread", "two\nlines"])
def test_a_thread_that_a_cluster_has_lost_is_corrupt(thread_id: str, prefix: str, cluster_server: Server) -> None:
    with RedisSaver(cluster_server.url, prefix=prefix, deadline=3) as saver:
        config = put(saver, {"a": 1}, config_of(thread_id))
        saver.put_writes(config, [("__interrupt__", [Interrupt("?", id="1")])], "task")
        put(saver, {"a": 1}, config_of("another"))
        key = saver.store._keys(thread_id)[0]  # type: ignore[attr-defined]
        with RedisCluster.from_url(cluster_server.url.split(",")[0].replace("redis+cluster", "redis")) as client:
            assert client.delete(key) == 1
        for act, others in (("threads", ["another"]), ("interrupts", [])):
            for name in (act, f"a{act}"):
                found = OF_MANY[name](saver)
                assert [each.thread_id for each in found if each.error] == [thread_id]
                assert [each.thread_id for each in found if not each.error] == others
        for read in (lambda: list(saver.list(config_of(thread_id))), lambda: values_of(saver, config_of(thread_id))):
            with pytest.raises(CorruptCheckpoint, match="is gone from Redis"):
                read()
        if thread_id == "thread":
            with pytest.raises(CorruptCheckpoint, match="'thread' is gone from Redis"):
                list(saver.list(None))


def test_a_listing_that_lacks_one_record_of_a_thread_in_a_cluster_is_corrupt_and_not_unavailable(
    prefix: str, cluster_server: Server
) -> None:
    with RedisSaver(cluster_server.url, prefix=prefix, deadline=3) as saver:
        first = put(saver, {"a": 1})
        put(saver, {"a": 2}, first)
        key = saver.store._keys("thread")[0]  # type: ignore[attr-defined]
        with RedisCluster.from_url(cluster_server.url.split(",")[0].replace("redis+cluster", "redis")) as client:
            assert client.hdel(key, b"c\0" + first["configurable"]["checkpoint_id"].encode()) == 1
        for config in (None, config_of("thread")):
            with pytest.raises(CorruptCheckpoint, match="'thread' and its index no longer agree"):
                list(saver.list(config))


def test_a_script_that_an_administrator_ends_is_no_damage(prefix: str) -> None:
    with redis("--lua-time-limit", "50") as server, redis_py.Redis.from_url(server.url) as client:

        def kill() -> None:
            with redis_py.Redis.from_url(server.url) as administrator:
                while True:
                    with contextlib.suppress(redis_py.ResponseError):  # there is none that runs, so far
                        administrator.execute_command("SCRIPT KILL")
                        return
                    time.sleep(0.02)

        killing = threading.Thread(target=kill)
        killing.start()
        with pytest.raises(redis_py.ResponseError) as killed:
            client.eval("while true do redis.call('GET', KEYS[1]) end", 1, "x")
        killing.join()
    assert isinstance(translated(killed.value), StoreUnavailable)


def move_slots(source: int, target: int, prefix: str) -> int:
    """Move every slot that has something of ours from one server of a cluster to another one; returns how many."""
    with (
        redis_py.Redis(port=source, decode_responses=True) as from_,
        redis_py.Redis(port=target, decode_responses=True) as to,
    ):
        ids = {name: client.execute_command("CLUSTER MYID") for name, client in (("from", from_), ("to", to))}
        slots = {from_.execute_command("CLUSTER KEYSLOT", key) for key in from_.scan_iter(match=f"{prefix}*")}
        for slot in slots:
            to.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids["from"])
            from_.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids["to"])
            while keys := from_.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                from_.execute_command("MIGRATE", HOST, target, keys[0], 0, 60_000)
                time.sleep(0.01)  # between two keys of a slot, where a script finds one here and one there
            for client in (to, from_):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids["to"])
        return len(slots)


def test_a_connection_that_is_dropped_under_a_call_is_repeated(
    cluster_server: Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, dropped = Connection._send_packed_command, []

    async def dropping(connection: Any, command: Any) -> None:
        if b"EVALSHA" in b"".join(command) and not dropped:
            await connection.disconnect(nowait=True)  # as the cluster client does from another task
            dropped.append(connection)
        await send(connection, command)

    monkeypatch.setattr(Connection, "_send_packed_command", dropping)

    async def act(deadline: float) -> Any:
        async with RedisSaver(cluster_server.url, prefix=prefix, deadline=deadline) as saver:
            dropped.clear()
            return await saver.aget_tuple(CONFIG)

    assert asyncio.run(act(5)) is None
    assert len(dropped) == 1
    with pytest.raises(StoreUnavailable, match="closed under the request"):
        asyncio.run(act(0))


class Dropping(DefaultParser):  # type: ignore[misc, valid-type]
    """Drops its connection just before or after it looks for the socket or for what was read, as another thread may."""

    looks = 0
    """How many looks there are up to that one, in halves."""

    def on_connect(self, connection: Any) -> None:
        self.connection = connection
        super().on_connect(connection)

    def __getattribute__(self, name: str) -> Any:
        if name not in ("_sock", "_reader"):
            return super().__getattribute__(name)
        self.count()
        found = super().__getattribute__(name)
        self.count()
        return found

    def count(self) -> None:
        if Dropping.looks:
            Dropping.looks -= 1
            if not Dropping.looks:
                self.connection.disconnect()


@pytest.mark.parametrize("deadline", [0, 5])
def test_a_connection_that_another_thread_drops_under_a_call_is_unavailable_and_the_call_is_repeated(
    deadline: float, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool: Any = redis_py.ConnectionPool.from_url(redis_url, parser_class=Dropping)
    outcomes = []
    with redis_py.Redis(connection_pool=pool) as client, RedisSaver(client, prefix=prefix, deadline=deadline) as saver:
        put(saver, {"a": 1})
        for looks in range(1, 17):
            monkeypatch.setattr(Dropping, "looks", looks)
            try:
                outcomes.append(values_of(saver))
            except StoreUnavailable as error:
                outcomes.append(type(error))
            monkeypatch.undo()
            assert values_of(saver) == {"a": 1}
    assert {"a": 1} in outcomes  # redis-py itself repeats some
    assert (StoreUnavailable in outcomes) == (deadline == 0)


# Down


@pytest.fixture(params=["redis", "cluster", "sentinel"])
def down(request: pytest.FixtureRequest) -> Iterator[CheckpointSaver]:
    """A saver whose servers have gone, after it stored something."""
    with ExitStack() as stack, ExitStack() as servers:
        if request.param == "sentinel":
            url = servers.enter_context(redis_sentinel()).url
        else:
            url = servers.enter_context(redis() if request.param == "redis" else redis_cluster()).url
        saver = stack.enter_context(open_saver(url, deadline=0.3))
        put(saver, {"a": 1})
        assert asyncio.run(saver.aget_tuple(CONFIG)) is not None
        servers.close()
        yield saver


@pytest.mark.parametrize("fixture", ["redis_url", "cluster_server"])
def test_the_answer_to_an_interrupted_call_is_not_given_to_the_next(
    fixture: str, prefix: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = request.getfixturevalue(fixture)
    threads = [f"thread {number}" for number in range(3)]
    send = BlockingConnection.send_packed_command

    def interrupted(*arguments: Any, **options: Any) -> None:
        send(*arguments, **options)
        monkeypatch.undo()
        raise KeyboardInterrupt  # as a signal handler may at any moment

    with open_saver(server if isinstance(server, str) else server.url, prefix=prefix) as saver:
        for thread in threads:
            put(saver, {"a": thread}, config_of(thread))
        for thread in threads:
            monkeypatch.setattr(BlockingConnection, "send_packed_command", interrupted)
            with pytest.raises(KeyboardInterrupt):
                saver.get_tuple(config_of(thread))
            for each in threads:
                assert values_of(saver, config_of(each)) == {"a": each}


def test_a_server_that_is_down_is_unavailable_after_the_deadline_and_never_empty(down: CheckpointSaver) -> None:
    def unavailable(act: Callable[[], Any]) -> None:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="Redis"):
            act()
        assert time.monotonic() - began < 15

    async def listed() -> None:
        async for _ in down.athreads():
            raise AssertionError("a thread was found")

    unavailable(lambda: down.get_tuple(CONFIG))
    unavailable(lambda: put(down, {"a": 2}))
    unavailable(lambda: list(down.list(CONFIG)))
    unavailable(lambda: list(down.threads()))
    unavailable(lambda: list(down.interrupts()))
    unavailable(lambda: down.delete_thread("thread"))
    unavailable(lambda: asyncio.run(down.aget_tuple(CONFIG)))
    unavailable(lambda: asyncio.run(listed()))


def test_nothing_that_listens_is_unavailable_from_the_beginning() -> None:
    for scheme, path in (("redis", ""), ("redis+cluster", ""), ("redis+sentinel", "/service")):
        with (
            pytest.raises(StoreUnavailable),
            open_saver(f"{scheme}://{HOST}:{free_port()}{path}", deadline=0),
        ):
            pass


def test_callers_of_a_server_that_says_nothing_do_not_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTING_SECONDS", 0.2)
    callers = 40

    async def get_all(url: str) -> None:
        async with contextlib.aclosing(RedisSaver.from_conn_string(url, deadline=0)) as saver:  # type: ignore[type-var]
            calls = (saver.aget_tuple(CONFIG) for _ in range(callers))
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in found] == [StoreUnavailable] * callers

    with socket.create_server((HOST, 0), backlog=50) as silent:
        url = f"redis://{HOST}:{silent.getsockname()[1]}?socket_timeout=0.5&max_connections=4"
        asyncio.run(get_all(url))
        assert 1 <= arrived(silent) < callers  # not one after the other


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_callers_of_a_cluster_that_says_nothing_do_not_wait_for_one_another(
    colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTING_SECONDS", 0.1)
    callers = 6
    with socket.create_server((HOST, 0), backlog=50) as silent:
        url = f"redis+cluster://{HOST}:{silent.getsockname()[1]}?socket_timeout=2"
        saver = RedisSaver.from_conn_string(url, deadline=0)
        together = threading.Barrier(callers)

        def get() -> None:
            together.wait(30)
            with pytest.raises(StoreUnavailable):
                saver.get_tuple(CONFIG)

        async def get_all() -> None:
            async with contextlib.aclosing(saver):  # type: ignore[type-var]
                calls = (saver.aget_tuple(CONFIG) for _ in range(callers))
                found = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in found] == [StoreUnavailable] * callers

        if colour == "async":
            asyncio.run(get_all())
        else:
            with ThreadPoolExecutor(callers) as pool:
                for done in [pool.submit(get) for _ in range(callers)]:
                    done.result()
            saver.close()
        attempts = arrived(silent)
    assert 1 <= attempts < callers  # each waits for 2 seconds; one after the other, the last would wait for 12


def test_a_server_of_a_cluster_that_is_down_makes_listings_fail_and_not_shorter(prefix: str) -> None:
    with redis_cluster() as server, RedisSaver(server.url, prefix=prefix, deadline=0.3) as saver:
        for number in range(30):
            put(saver, {"n": number}, config_of(f"t{number}"))
        os.kill(server.pid, signal.SIGKILL)
        for read in (lambda: list(saver.threads()), lambda: list(saver.list(None)), lambda: list(saver.interrupts())):
            with pytest.raises(StoreUnavailable):
                read()


def test_a_replica_is_no_place_to_write_to(prefix: str) -> None:
    with redis_sentinel(patience=60) as watched:
        replica = next(port for port in watched.pids if port != watched.master())
        with pytest.raises(StoreUnavailable), open_saver(f"redis://{HOST}:{replica}?prefix={prefix}", deadline=0):
            pass


def test_a_write_that_too_few_replicas_confirm_is_not_acknowledged(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "WAIT_MS", 20_000)
    url = f"?prefix={prefix}&replicas=1"
    with redis_sentinel(patience=60) as watched, open_saver(f"{watched.url}{url}", deadline=0) as saver:
        put(saver, {"a": 1})
        replica = next(pid for port, pid in watched.pids.items() if port != watched.master())
        os.kill(replica, signal.SIGSTOP)
        try:
            with monkeypatch.context() as impatient:
                impatient.setattr(transport, "WAIT_MS", 200)
                with pytest.raises(StoreUnavailable, match=r"0 replica\(s\) confirmed"):
                    put(saver, {"a": 2})
                with pytest.raises(StoreUnavailable, match=r"0 replica\(s\) confirmed"):
                    asyncio.run(saver.aput_writes(put_config(saver), [("a", 1)], "task"))
        finally:
            os.kill(replica, signal.SIGCONT)
        put(saver, {"a": 3})
        assert values_of(saver) == {"a": 3}


def put_config(saver: CheckpointSaver) -> Any:
    found = saver.get_tuple(CONFIG)
    assert found is not None
    return found.config
