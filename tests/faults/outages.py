"""Servers that go away and come back while many callers use them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias
from uuid import uuid4

import redis as redis_py

from tests.faults.backends import Backend, PostgresBackend, RedisBackend, ServerBackend, Servers
from tests.faults.proxy import Fault, Proxy
from tests.servers.pgbouncer import pgbouncer
from tests.servers.postgres import cluster
from tests.servers.processes import Server
from tests.servers.redis import Watched, place, redis_sentinel

CUTS = tuple(fault for fault in Fault if fault is not Fault.SILENCE)


@dataclass(frozen=True, slots=True)
class Outage:
    """A store to work on by ``url``, and what happens to it: ``strike`` returns when it can be reached again.

    ``deadline`` is that of the savers, in seconds; ``most`` how often it may strike.
    """

    backend: Backend
    url: str
    strike: Callable[[], None]
    deadline: float = 30
    most: int = 5


Restarts: TypeAlias = Callable[[Servers], AbstractContextManager[Outage]]


@contextmanager
def postgres_restarted(_: Servers) -> Iterator[Outage]:
    """A PostgreSQL of its own that alternately crashes and is shut down without waiting for its clients."""
    with cluster() as data, ExitStack() as running:
        server = running.enter_context(data.started(durable=True))
        pids = [server.pid]

        def strike() -> None:
            if len(pids) % 2:
                os.kill(pids[-1], signal.SIGQUIT)  # its immediate shutdown: the next start recovers as after a crash
            running.close()
            time.sleep(0.2)
            pids.append(running.enter_context(data.started(durable=True)).pid)

        backend = PostgresBackend(server, f"faults_{uuid4().hex}")
        yield Outage(backend, backend.url, strike)


@contextmanager
def pgbouncer_restarted(servers: Servers) -> Iterator[Outage]:
    """PostgreSQL behind a PgBouncer in transaction mode that is stopped and started."""
    with servers.backend("postgres") as backend, ExitStack() as running:
        assert isinstance(backend, PostgresBackend)
        assert backend.server is not None
        server = backend.server
        with Proxy("127.0.0.1", port_of(running.enter_context(pgbouncer(server)))) as proxy:

            def strike() -> None:
                running.close()
                proxy.reset()
                time.sleep(0.2)
                proxy.target = proxy.host, port_of(running.enter_context(pgbouncer(server)))

            yield Outage(backend, backend.url_behind_a_pooler(proxy.host, proxy.port), strike)


@contextmanager
def redis_restarted(_: Servers) -> Iterator[Outage]:
    """A Redis of its own that writes every command to the disk, is killed, and reads its file again."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with place() as here, ExitStack() as running:
        server = running.enter_context(here.started(*options))
        pids = [server.pid]

        def strike() -> None:
            os.kill(pids[-1], signal.SIGKILL)
            running.close()
            time.sleep(0.2)
            pids.append(running.enter_context(here.started(*options)).pid)

        backend = RedisBackend(server, f"faults-{uuid4().hex}")
        yield Outage(backend, backend.url, strike)


class _SentinelBackend(RedisBackend):
    """Looks at whichever server is the master."""

    def __init__(self, watched: Watched, prefix: str) -> None:
        self._watched = watched
        super().__init__(Server(watched.url, watched.version, 0), prefix)
        self.url += "&replicas=1"

    @contextmanager
    def _raw(self) -> Iterator[redis_py.Redis]:
        with redis_py.Redis(port=self._watched.master()) as raw:
            yield raw


@contextmanager
def sentinel_failed_over(_: Servers) -> Iterator[Outage]:
    """A Redis with two replicas, one of which must have confirmed a write; its master is killed, a Sentinel chooses."""
    with redis_sentinel(replicas=2) as watched:
        backend = _SentinelBackend(watched, f"faults-{uuid4().hex}")
        yield Outage(backend, backend.url, watched.fail_over, most=1)


def through_a_proxy(name: str, happens: Callable[[Backend, Proxy], None], *, deadline: float = 30) -> Restarts:
    """An outage of a backend that is reached through a proxy."""

    @contextmanager
    def opened(servers: Servers) -> Iterator[Outage]:
        with servers.backend(name) as backend:
            assert isinstance(backend, ServerBackend)
            with Proxy(*backend.address) as proxy:
                url = backend.url_through(proxy.host, proxy.port)
                yield Outage(backend, url, lambda: happens(backend, proxy), deadline)

    return opened


def unreachable(_: Backend, proxy: Proxy) -> None:
    """Connections are reset, and refused for a while."""
    proxy.refuse = True
    proxy.reset()
    time.sleep(0.5)
    proxy.refuse = False
    time.sleep(0.5)


def half_open(_: Backend, proxy: Proxy) -> None:
    """Nothing passes for a while, and what was waiting is lost."""
    proxy.freeze()
    time.sleep(1)
    proxy.reset()
    proxy.thaw()
    time.sleep(0.5)


def unreliable(_: Backend, proxy: Proxy) -> None:
    """Each message may be lost or cut, at a chance of one in fifty."""
    proxy.chances = dict.fromkeys(CUTS, 0.005)
    proxy.latency = 0.002
    time.sleep(1)
    proxy.disarm()
    proxy.latency = 0


def suspended(backend: Backend, _: Proxy) -> None:
    """The server's processes are stopped for longer than the savers' deadline."""
    with stopped(backend):
        time.sleep(2.5)
    time.sleep(0.5)


@contextmanager
def stopped(backend: Backend) -> Iterator[None]:
    """The server and its children, stopped: connections stay open, and are even accepted."""
    assert backend.server is not None
    family = [backend.server.pid, *_children(backend.server.pid)]
    try:
        for process in family:
            _signal(process, signal.SIGSTOP)
        yield
    finally:
        for process in family:
            _signal(process, signal.SIGCONT)


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it served a connection that has been closed since
        os.kill(process, number)


def _children(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children") as listed:
        return [int(one) for one in listed.read().split()]


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2].partition("/")[0])


RESTARTS: dict[str, Restarts] = {
    "PostgreSQL crashes and restarts": postgres_restarted,
    "PgBouncer restarts": pgbouncer_restarted,
    "Redis is killed and restarts": redis_restarted,
    "Redis fails over by Sentinel": sentinel_failed_over,
}
"""Servers that end and start, each one of its own."""

TROUBLES: dict[str, tuple[Callable[[Backend, Proxy], None], float]] = {
    "unreachable": (unreachable, 30),
    "half-open": (half_open, 30),
    "messages lost or cut": (unreliable, 30),
    "suspended for longer than the deadline": (suspended, 1),
}
"""What happens to any server, with the savers' deadline."""
