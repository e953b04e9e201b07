"""A side at work: its storage, a saver to time, and another saver behind a counting proxy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.measure import settle
from benchmarks.sides import Backend, Side, Storage
from benchmarks.wire import Proxy, Said, counting
from tests.servers.processes import Server


class Contender:
    """A side with its storage, its saver, and the saver that is ``counted``; for files, both are the same."""

    def __init__(self, side: Side, storage: Storage, saver: Any, counted: Any, proxy: Proxy | None) -> None:
        self.side = side
        self.storage = storage
        self.saver = saver
        self.counted = counted
        self._proxy = proxy

    def count(self, act: Callable[[], Any]) -> Said:
        """Act, and return the traffic of ``counted`` with its server; without a server, the bytes written to files."""
        before = self._said()
        act()
        return self._said().since(before)

    def _said(self) -> Said:
        return self._proxy.said() if self._proxy else Said(sent=_written())


def _written() -> int:
    """Bytes that this process has passed to `write`."""
    with open("/proc/self/io") as counters:
        return next(int(line.split()[1]) for line in counters if line.startswith("wchar"))


@contextmanager
def contender(backend: Backend, side: Side, server: str, number: int) -> Iterator[Contender]:
    with ExitStack() as stack:
        storage = stack.enter_context(backend.place(server, number))
        saver = stack.enter_context(side.open(storage.url))
        if storage.port is None:
            yield Contender(side, storage, saver, saver, None)
            return
        proxy = stack.enter_context(counting(storage.port))
        counted = stack.enter_context(side.open(storage.through(proxy.port)))
        yield Contender(side, storage, saver, counted, proxy)


@contextmanager
def all_of(backend: Backend) -> Iterator[tuple[Server, Sequence[Contender]]]:
    """The server, and its sides at work."""
    with backend.server() as server, ExitStack() as stack:
        yield (
            server,
            [
                stack.enter_context(contender(backend, side, server.url, number))
                for number, side in enumerate(backend.sides)
            ],
        )


def settled(backend: Backend) -> None:
    """Clear what one side has left behind, garbage and unwritten disk pages, so that no other side pays for it."""
    settle()
    if backend.is_on_disk:
        os.sync()
