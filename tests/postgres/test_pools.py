"""Pools that a saver opens: when they cannot connect, are busy, or end with their event loop or process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection

from checkpoint_base import (
    CheckpointSaver,
    StoreUnavailable,
    UnsupportedOperation,
    open_saver,
)
from checkpoint_postgres import PostgresSaver, connections
from checkpoint_postgres.pools import Connecting, TrackingPool
from checkpoint_postgres.punctual import AsyncPunctual
from tests.faults.proxy import Proxy
from tests.postgres.conftest import CONFIG, Place, eventually, put_values


def test_why_a_pool_could_not_connect_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.role("SUPERUSER") as url, open_saver(url) as saver:
        put_values(saver, {"a": 1})
        monkeypatch.setattr(connections, "POOL_SECONDS", 0.5)
        place.query(f'ALTER ROLE "{place.schema}" NOLOGIN')
        place.terminate()
        with pytest.raises(UnsupportedOperation, match="is not permitted to log in"):
            saver.get_tuple(CONFIG)


def test_why_an_async_pool_cannot_connect_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class TheLast(AsyncConnection[Any]):
        @classmethod
        async def connect(cls, *args: Any, **kwargs: Any) -> Any:
            connection = await super().connect(*args, **kwargs)
            place.query(f'ALTER ROLE "{place.schema}" CONNECTION LIMIT 0')
            return connection

    wait = TrackingPool.wait

    async def tried(pool: TrackingPool, **_: Any) -> None:
        while "too many" not in (pool.connecting.trouble or ""):  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.01)
        await wait(pool, timeout=0.1)

    monkeypatch.setattr(TrackingPool, "wait", tried)
    with place.role("CONNECTION LIMIT 5") as url, closing(open_saver(url, deadline=0)) as saver:
        monkeypatch.setattr(connections, "AsyncConnection", TheLast)
        with pytest.raises(StoreUnavailable, match="too many connections for role"):
            asyncio.run(saver.aget_tuple(CONFIG))


def test_a_pool_that_does_not_get_as_many_connections_as_it_keeps_serves_with_fewer(place: Place) -> None:
    with place.role("CONNECTION LIMIT 1") as url:
        place.query(f'CREATE SCHEMA {{s}} AUTHORIZATION "{place.schema}"')
        with closing(open_saver(url, min_size=2)) as saver:
            assert saver.get_tuple(CONFIG) is None
        with closing(open_saver(url, min_size=2)) as saver:
            assert asyncio.run(saver.aget_tuple(CONFIG)) is None


@pytest.mark.parametrize("size", [0, 1, 3])
def test_an_async_pool_keeps_as_many_connections_as_it_is_told(place: Place, size: int) -> None:
    async def run() -> None:
        async with open_saver(f"{place.url}&min_size={size}") as saver:
            assert await saver.aget_tuple(CONFIG) is None
            await asyncio.to_thread(eventually, lambda: place.sessions() == max(1, size))

    asyncio.run(run())


def test_why_a_pool_could_not_connect_is_told_while_it_tries_again() -> None:
    connecting = Connecting()
    with pytest.raises(OSError, match="expired"), connecting.attempt():
        raise OSError("the token has expired")
    with connecting.attempt():
        assert connecting.trouble == "the token has expired"
    assert connecting.trouble is None


def has_all(saver: PostgresSaver) -> bool:
    """Whether the pool of the sync callers waits for no connection."""
    found = saver.store.transport._connections._pools.get().blocking.made.get_stats()
    return bool(found["pool_available"] == found["pool_size"])


def test_a_password_file_is_read_for_each_new_connection(place: Place, tmp_path: Path) -> None:
    """The server here asks for no password, but libpq tells which one it has read."""
    passwords = tmp_path / "passwords"
    seen = []
    with open_saver(f"{place.url}&passfile={passwords}") as saver:
        assert isinstance(saver, PostgresSaver)
        for password in ("first", "second"):
            passwords.write_text(f"*:*:*:*:{password}\n")
            passwords.chmod(0o600)
            place.terminate()
            assert saver.get_tuple(CONFIG) is None
            eventually(partial(has_all, saver))  # none that has read the password of before is still on its way
            with saver.store.transport._connections.lent() as connection:
                seen.append(connection.info.password)
    assert seen == ["first", "second"]


def test_a_pool_whose_connections_are_all_busy_says_so(
    saver: PostgresSaver, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_values(saver, {"a": 1})
    with open_saver(f"{place.url}&max_size=1", deadline=0) as narrow:
        assert isinstance(narrow, PostgresSaver)
        with narrow.store.transport._connections.lent():
            monkeypatch.setattr(connections, "POOL_SECONDS", 0.2)
            with pytest.raises(StoreUnavailable, match="busy for 0 seconds: raise max_size=1"):
                narrow.get_tuple(CONFIG)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_those_who_wait_in_vain_for_a_busy_pool_open_no_connections(
    saver: PostgresSaver, place: Place, colour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand that did would take every connection that the server has."""

    async def use(narrow: PostgresSaver) -> None:
        lending = narrow.store.transport._connections
        read = narrow.aget_tuple if colour == "async" else partial(asyncio.to_thread, narrow.get_tuple)
        async with AsyncExitStack() as lent:
            if colour == "async":
                await lent.enter_async_context(lending.alent())
            else:
                lent.enter_context(lending.lent())
            before = proxy.accepted
            monkeypatch.setattr(connections, "POOL_SECONDS", 0.2)
            tried = await asyncio.gather(*(read(CONFIG) for _ in range(5)), return_exceptions=True)
            assert ["busy for 0 seconds" in str(error) for error in tried] == [True] * 5
            assert proxy.accepted == before
        await narrow.aclose()

    with place.proxied() as (proxy, url):
        asyncio.run(use(PostgresSaver.from_conn_string(f"{url}&max_size=1", deadline=0)))


UNCLOSED = """
import atexit, os, sys, threading

# Handlers run in reverse: this one after the saver's own.
atexit.register(lambda: print([each.name for each in threading.enumerate()]))

from checkpoint_base import open_saver
from tests.postgres.conftest import CONFIG, put_values

saver = open_saver(sys.argv[1])
put_values(saver, {"a": 1})
if os.fork() == 0:
    sys.exit()  # its parent's connections go on working
os.wait()
put_values(saver, {"a": 2})
atexit.register(lambda: print(saver.get_tuple(CONFIG).checkpoint["channel_values"]))
"""


def test_a_saver_that_nobody_closes_does_not_keep_the_interpreter_from_ending(place: Place) -> None:
    quiet = ["-W", "ignore:This process:DeprecationWarning"]  # about forks beside threads, from Python 3.12 on
    done = subprocess.run(
        [sys.executable, *quiet, "-c", UNCLOSED, place.url], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["{'a': 2}", "['MainThread']"]
    assert done.stderr == ""


FORKING = """
import os, sys
from checkpoint_base import open_saver
from tests.postgres.conftest import CONFIG, put_values

with open_saver(sys.argv[1]) as saver:
    put_values(saver, {"a": "parent"})
    child = os.fork()
    if child == 0:
        put_values(saver, {"a": "child"})
        os._exit(0 if saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "child"} else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"a": "child"}
    put_values(saver, {"a": "parent again"})
    print(len(list(saver.list(CONFIG))))
"""


def test_a_forked_process_opens_connections_of_its_own(place: Place) -> None:
    ran = subprocess.run([sys.executable, "-c", FORKING, place.url], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "3\n"), ran.stderr


UNANSWERED = """
import asyncio, os, sys
from checkpoint_base import open_saver
from tests.postgres.conftest import CONFIG

async def main():
    saver = open_saver(sys.argv[1])
    await saver.asetup()
    await saver.aget_tuple(CONFIG)
    print("frozen", flush=True)
    sys.stdin.readline()
    await asyncio.wait_for(asyncio.gather(*(saver.aget_tuple(CONFIG) for _ in range(5))), 1)

try:
    asyncio.run(main())
except TimeoutError:
    print("ended", flush=True)
    os._exit(0)
"""


def test_an_event_loop_ends_while_its_pool_tries_to_connect(place: Place) -> None:
    host, _, port = place.server_url.partition("@")[2].partition("/")[0].partition(":")
    with Proxy(host, int(port)) as proxy:
        url = place.url.replace(f":{port}", f":{proxy.port}", 1)
        with subprocess.Popen(
            [sys.executable, "-c", UNANSWERED, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "frozen\n"
            proxy.freeze()
            print(file=program.stdin, flush=True)
            try:
                assert program.wait(30) == 0
                assert program.stdout.read() == "ended\n"
            finally:
                if program.poll() is None:
                    os.kill(program.pid, signal.SIGKILL)
        proxy.thaw()


@pytest.mark.parametrize("turns", range(4))
def test_an_event_loop_ends_however_far_its_pool_has_got_with_connecting_and_psycopg_logs_why_it_stops(
    turns: int, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def first_call(saver: CheckpointSaver) -> None:
        connecting = asyncio.Event()

        async def hung(*_: Any, **__: Any) -> Any:
            connecting.set()
            await asyncio.sleep(600)

        monkeypatch.setattr(AsyncPunctual, "connect", classmethod(hung))
        calling = asyncio.create_task(saver.aget_tuple(CONFIG))
        await connecting.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        calling.cancel()

    with open_saver(place.url) as saver:
        asyncio.run(first_call(saver))
    logged = [record.getMessage() for record in caplog.records if record.name == "psycopg.pool"]
    assert [message.partition(": ")[2] for message in logged] == ["the event loop ends"]


def test_an_ended_event_loop_leaves_no_connection(place: Place, put: Callable[..., Any]) -> None:
    with open_saver(place.url) as saver:
        put(saver, {"a": 1})
        before = place.sessions()
        for _ in range(3):  # each in a loop of its own, which ends without closing anything
            asyncio.run(saver.aget_tuple(CONFIG))
        asyncio.run(saver.aget_tuple(CONFIG))
        eventually(lambda: place.sessions() <= before + 2)


def test_a_caller_that_is_cancelled_while_its_pool_opens_leaves_the_pool_to_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a client hangs up during the first request. Otherwise the pool's tasks and connections would be left."""
    pools = []
    wait = TrackingPool.wait

    async def main() -> None:
        opening = asyncio.Event()

        async def watched(pool: TrackingPool, **options: Any) -> None:
            pools.append(pool)
            opening.set()
            await wait(pool, **options)

        monkeypatch.setattr(TrackingPool, "wait", watched)
        saver = open_saver(place.url)
        first = asyncio.create_task(saver.aget_tuple(CONFIG))
        await opening.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await saver.aget_tuple(CONFIG) is None
        await saver.aclose()
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("pool-")] == []

    asyncio.run(main())
    assert len(pools) == 1


@pytest.mark.parametrize("moment", ["first call", "busy", "idle"])
def test_calls_that_meet_the_end_of_their_saver_all_say_that_it_is_closed(place: Place, moment: str) -> None:
    """Those that wait for the first connection, for their turn or for a connection, and those that come later."""

    async def use() -> list[BaseException | None]:
        saver = open_saver(f"{place.url}&max_size=2")
        if moment != "first call":
            await saver.aget_tuple(CONFIG)
        calls = [asyncio.create_task(keep_calling(saver)) for _ in range(10)]
        await asyncio.sleep(0 if moment == "first call" else 0.1)
        await saver.aclose()
        return await asyncio.gather(*calls, return_exceptions=True)

    async def keep_calling(saver: CheckpointSaver) -> None:
        while True:
            await saver.aget_tuple(CONFIG)
            await asyncio.sleep(0.03 if moment == "idle" else 0)

    failed = asyncio.run(use())
    assert {type(error) for error in failed} == {UnsupportedOperation}
    assert {str(error) for error in failed} == {"the saver is closed: open another one"}


def test_threads_that_meet_the_end_of_their_saver_all_say_that_it_is_closed(place: Place) -> None:
    def keep_calling() -> None:
        while True:
            saver.get_tuple(CONFIG)

    saver = open_saver(f"{place.url}&max_size=2")
    saver.get_tuple(CONFIG)
    with ThreadPoolExecutor(10) as threads:
        calls = [threads.submit(keep_calling) for _ in range(10)]
        time.sleep(0.1)
        saver.close()
    failed = [call.exception() for call in calls]
    assert {type(error) for error in failed} == {UnsupportedOperation}
    assert {str(error) for error in failed} == {"the saver is closed: open another one"}
