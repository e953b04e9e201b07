"""Connections that end in the middle of a graph's run: nothing is lost, and nothing is raised."""

from __future__ import annotations

import asyncio
import operator
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, TypedDict
from urllib.parse import urlsplit

import pytest
from langgraph.graph import START, StateGraph

from checkpoint_base import StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_postgres import PostgresSaver, connections
from checkpoint_postgres.pools import RENEWED_EVERY
from tests.faults.proxy import Proxy
from tests.postgres.conftest import Place, eventually, place_on
from tests.servers.postgres import Cluster, cluster, installations
from tests.servers.processes import HOST, ServerUnavailable

NODES = [f"node {number}" for number in range(8)]
THREADS = ["one", "two", "three"]


class State(TypedDict):
    log: Annotated[list[str], operator.add]


class Run:
    """Three runs at once of a graph of eight nodes; ``disturb`` is called while all are in the third, fourth, …."""

    def __init__(self, disturb: Callable[[], object], times: int = 3) -> None:
        self.executed: list[str] = []
        self._disturb = disturb
        self._disturbed = NODES[2 : 2 + times]
        self._arrived = threading.Barrier(len(THREADS))

    def built(self, saver: PostgresSaver) -> Any:
        builder = StateGraph(State)
        for name in NODES:
            builder.add_node(name, self._act(name))
        builder.add_edge(START, NODES[0])
        for one, other in pairwise(NODES):
            builder.add_edge(one, other)
        return builder.compile(checkpointer=saver)

    def _act(self, name: str) -> Callable[[State], State]:
        def node(_: State) -> State:
            self.executed.append(name)
            if name in self._disturbed and self._arrived.wait(60) == 0:
                self._disturb()
            return {"log": [name]}

        return node

    def start(self, saver: PostgresSaver, colour: str) -> list[Any]:
        graph = self.built(saver)
        configs = [{"configurable": {"thread_id": thread}} for thread in THREADS]
        if colour == "async":

            async def together() -> list[Any]:
                # Every graph in it on one loop and one pool; its nodes run on threads.
                return await asyncio.gather(*(graph.ainvoke({"log": []}, config) for config in configs))

            return asyncio.run(together())
        results: list[Any] = []

        def invoke(config: Any) -> None:
            results.append(graph.invoke({"log": []}, config))

        running = [threading.Thread(target=invoke, args=[config]) for config in configs]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return results

    def check(self, results: list[Any], url: str) -> None:
        """Every node ran once in every run, and everything is there, as another saver reads it."""
        assert results == [{"log": NODES}] * len(THREADS)
        assert sorted(self.executed) == sorted(NODES * len(THREADS))
        with open_saver(url) as reader:
            for thread in THREADS:
                found = list(reader.list({"configurable": {"thread_id": thread}}))
                assert [each.metadata["step"] for each in found] == list(range(8, -2, -1))
                assert [each.checkpoint["channel_values"].get("log") for each in found] == [
                    *(NODES[:done] for done in range(8, -1, -1)),
                    found[-1].checkpoint["channel_values"].get("log"),
                ]
                assert all(each.pending_writes for each in found[1:])


def some(count: Callable[[], int]) -> int:
    """A count once it is not 0: LangGraph stores in the background, so that there may be no connection yet."""
    give_up_at = time.monotonic() + 30
    while not (found := count()) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ended_sessions_lose_nothing(place: Place, colour: str) -> None:
    ended: list[int] = []
    run = Run(lambda: ended.append(some(place.terminate)))
    with open_saver(place.url) as saver:
        results = run.start(saver, colour)  # type: ignore[arg-type]
    run.check(results, place.url)
    assert len(ended) == 3
    assert min(ended) >= 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_idle_connections_that_the_network_drops_lose_nothing(place: Place, colour: str) -> None:
    dropped: list[int] = []
    with place.proxied() as (proxy, url):

        def drop() -> None:
            dropped.append(some(lambda: proxy.connections))
            proxy.reset()

        run = Run(drop)
        with open_saver(url) as saver:
            results = run.start(saver, colour)  # type: ignore[arg-type]
    run.check(results, place.url)
    assert len(dropped) == 3
    assert min(dropped) >= 1


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Cluster]:
    try:
        installation = installations()[0]
    except ServerUnavailable as unavailable:
        pytest.fail(f"a server that can be restarted is needed, whatever others the tests use: {unavailable}")
    with cluster(installation) as data:
        yield data


@contextmanager
def restartable(data: Cluster) -> Iterator[tuple[Place, Callable[[], None]]]:
    """A schema on a server of its own, and what restarts that: as an administrator does, sessions or not."""
    with ExitStack() as running:
        place = place_on(running.enter_context(data.started()))

        def restart() -> None:
            running.pop_all().close()
            running.enter_context(data.started())

        yield place, restart


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_restarted_server_loses_nothing(own_cluster: Cluster, colour: str) -> None:
    with restartable(own_cluster) as (place, restart):
        restarts: list[None] = []
        run = Run(lambda: restarts.append(restart()), times=1)
        with open_saver(place.url) as saver:
            results = run.start(saver, colour)  # type: ignore[arg-type]
        run.check(results, place.url)
        assert len(restarts) == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_name_that_is_unknown_while_its_server_restarts_is_waited_for(
    place: Place, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a pod that is made anew. A name that was never known is refused at once."""
    host, name = urlsplit(place.url).hostname, "restarting.internal"
    known, asked = threading.Event(), threading.Event()
    resolve = socket.getaddrinfo

    def resolved(wanted: Any, *arguments: Any, **options: Any) -> Any:
        if wanted != name:
            return resolve(wanted, *arguments, **options)
        if known.is_set():
            return resolve(host, *arguments, **options)
        asked.set()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(connections, "POOL_SECONDS", 0.2)
    url = place.url.replace(f"@{host}", f"@{name}")
    config: Any = {"configurable": {"thread_id": "thread"}}

    def disturb() -> None:
        known.clear()
        assert some(place.terminate)

        def restart() -> None:
            asked.wait(20)
            time.sleep(1)  # several attempts
            known.set()

        threading.Thread(target=restart).start()

    with pytest.raises(UnsupportedOperation, match="Name or service not known"):
        open_saver(url).setup()
    asked.clear()
    known.set()
    with open_saver(url) as saver:
        if colour == "sync":
            saver.get_tuple(config)
            disturb()
            assert saver.get_tuple(config) is None
        else:

            async def call() -> None:
                await saver.aget_tuple(config)
                disturb()
                assert await saver.aget_tuple(config) is None

            asyncio.run(call())
    assert asked.is_set()


def test_idle_connections_that_are_lost_fail_no_caller_one_after_the_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One attempt finds one that is lost; the next has a new one, however many lay idle."""
    monkeypatch.setattr(connections, "POOL_SECONDS", 60)  # the second attempt waits for its connection
    with open_saver(f"{place.url}&min_size=12&max_size=12") as saver:
        assert isinstance(saver, PostgresSaver)
        saver.store.transport._connections._pools.get().blocking.made.wait(60)
        for _ in range(3):
            eventually(lambda: place.sessions() == 12)
            assert place.terminate() == 12
            attempts: list[object] = []
            inner = saver.store.transport
            execute = inner.execute

            def counting(request: Any, attempts: Any = attempts, execute: Any = execute) -> Any:
                attempts.append(request)
                return execute(request)

            inner.execute = counting  # type: ignore[method-assign]
            assert list(saver.threads()) == []
            del inner.execute
            assert len(attempts) <= 2
            saver.store.transport._connections._pools.get().blocking.made.wait(60)
            threading.Event().wait(1.1)  # an idle pool is renewed once in a second at most


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_pool_that_was_led_to_a_standby_leaves_it_once_its_name_leads_to_the_primary(
    own_cluster: Cluster, colour: str
) -> None:
    """For a moment of a failover, a name or a proxy leads to the old primary, whose sessions stay open."""
    with own_cluster.started() as primary:
        schema = place_on(primary).schema
        with open_saver(primary.url, schema=schema):
            pass
    with (
        own_cluster.standby() as old,
        old.started(),
        own_cluster.started() as primary,
        Proxy(HOST, old.port) as name,
    ):
        saver = PostgresSaver(f"postgresql://postgres@{HOST}:{name.port}/postgres", schema=schema, deadline=0)

        async def use() -> None:
            writes: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": "1"}}
            call = saver.aput_writes if colour == "async" else partial(asyncio.to_thread, saver.put_writes)
            with pytest.raises(StoreUnavailable, match="in a read-only transaction"):
                await call(writes, [("a", 1)], "task")
            name.target = (HOST, own_cluster.port)
            for _ in range(30):  # a connection that was on its way to the old one may still arrive
                await asyncio.sleep(RENEWED_EVERY)
                with suppress(StoreUnavailable):
                    await call(writes, [("a", 1)], "task")
                    break
            await call(writes, [("a", 1)], "task")
            await saver.aclose()

        asyncio.run(use())
        Place(primary.url, primary.url, schema, "").query("DROP SCHEMA {s} CASCADE")
