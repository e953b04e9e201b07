"""The dictionaries, and the requests that read and change them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from checkpoint_base import UnsupportedOperation


@dataclass(frozen=True, slots=True)
class Read:
    """A request: everything as it is now, by thread id. Nobody changes it afterwards."""


@dataclass(frozen=True, slots=True)
class Change:
    """A request: to be done to everything, all of it or nothing.

    ``work`` gets a copy of the dictionary to put new threads into; it must not change the threads themselves. What it
    returns is the response.
    """

    work: Callable[[dict[str, Any]], Any]


@dataclass(slots=True)
class _Shared:
    """What the savers of one name share."""

    threads: dict[str, Any] = field(default_factory=dict)
    changing: Lock = field(default_factory=Lock)


_SHARED: dict[str, _Shared] = {}


class DictTransport:
    """Executes `Read` and `Change` requests on the dictionaries of one name.

    A dictionary is always there. Where a storage can fail, this is the place that turns its client's errors into
    `StoreUnavailable` and the others of `checkpoint_base.errors`.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._shared = _SHARED.setdefault(name, _Shared())
        self._is_closed = False

    def execute(self, request: Read | Change) -> Any:
        if self._is_closed:
            raise UnsupportedOperation(f"the saver on dict://{self._name} is closed: open another one")
        if isinstance(request, Read):
            return self._shared.threads
        with self._shared.changing:
            threads = self._shared.threads.copy()
            response = request.work(threads)
            self._shared.threads = threads  # in one step: an error or an interrupt before it has changed nothing
        return response

    async def aexecute(self, request: Read | Change) -> Any:
        # The lock may have to be waited for, which the event loop must not do.
        return await asyncio.to_thread(self.execute, request)

    def close(self) -> None:
        self._is_closed = True

    async def aclose(self) -> None:
        self.close()
