"""Transports that end as a process does in the middle of an operation, or lose every answer once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from checkpoint_base.transport import Retrying, Transport
from checkpoint_s3 import S3Saver
from checkpoint_s3.transport import Call, Copy, Delete, Get, List, Put

CALLS = (Get, Put, Copy, Delete, List)


class Crash(Exception):
    """The process is gone."""


class Crashing:
    """Carries calls out one by one, those of a request in an order of chance, and ends after so many changes.

    Reading changes nothing, so ending before or after a read is ending after the change before it.
    """

    def __init__(self, inner: Transport, changes: float, seed: int) -> None:
        self.inner = inner
        self.done = 0
        self._most = changes
        self._chance = random.Random(seed)

    def execute(self, request: Any) -> Any:
        if isinstance(request, CALLS):
            return self._one(request)
        order = list(range(len(request)))
        self._chance.shuffle(order)
        answers = {at: self._one(request[at]) for at in order}
        return [answers[at] for at in range(len(request))]

    async def aexecute(self, request: Any) -> Any:
        return self.execute(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _one(self, call: Call) -> Any:
        if self.done >= self._most:
            raise Crash
        answer = self.inner.execute(call)
        if isinstance(call, (Put, Copy, Delete)):
            self.done += 1
        return answer


class Repeating:
    """Carries every request out twice, and tells of the second time only: as when all first answers get lost."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    def execute(self, request: Any) -> Any:
        self.inner.execute(request)
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        await self.inner.aexecute(request)
        return await self.inner.aexecute(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


def between(saver: S3Saver, make: Callable[[Transport], Any]) -> Any:
    """Put a transport between a saver and its store."""
    transport = make(saver.store.transport)
    saver._transport = Retrying(transport, deadline=5)
    return transport
