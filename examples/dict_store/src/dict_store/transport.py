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
    """A request to return all threads by id, as they are now. The response never changes afterwards."""


@dataclass(frozen=True, slots=True)
class Change:
    """A request to change threads, entirely or not at all.

    ``work`` gets a copy of the dictionary of threads. It may replace threads, but must not change them. Its result is
    the response.
    """

    work: Callable[[dict[str, Any]], Any]


@dataclass(slots=True)
class _Shared:
    """What all savers on the same name share."""

    threads: dict[str, Any] = field(default_factory=dict)
    changing: Lock = field(default_factory=Lock)


_SHARED: dict[str, _Shared] = {}


class DictTransport:
    """Executes `Read` and `Change` requests on the dictionaries of one name.

    A dictionary is always available. For a storage that can fail, this class is the place to turn its client's errors
    into `StoreUnavailable` and the other errors of `checkpoint_base.errors`.
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
            self._shared.threads = threads  # in one step, so an error or interrupt before it changes nothing
        return response

    async def aexecute(self, request: Read | Change) -> Any:
        # In a thread, because the event loop must not wait for the lock.
        return await asyncio.to_thread(self.execute, request)

    def close(self) -> None:
        self._is_closed = True

    async def aclose(self) -> None:
        self.close()
