"""A transport that counts: calls by their kind, and the steps that they take."""

from __future__ import annotations

from collections import Counter
from typing import Any

from checkpoint_base.transport import Retrying
from checkpoint_s3 import S3Saver
from checkpoint_s3.transport import Call, Copy, Delete, Get, List, Put


class CountingTransport:
    """Passes requests on. ``steps`` holds, of each, its calls."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.steps: list[list[Call]] = []

    def execute(self, request: Any) -> Any:
        self._count(request)
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        self._count(request)
        return await self.inner.aexecute(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _count(self, request: Any) -> None:
        calls = [request] if isinstance(request, (Get, Put, Copy, Delete, List)) else list(request)
        if calls:
            self.steps.append(calls)

    @property
    def calls(self) -> list[Call]:
        return [call for step in self.steps for call in step]

    @property
    def kinds(self) -> Counter[str]:
        return Counter(type(call).__name__ for call in self.calls)

    def forget(self) -> None:
        self.steps.clear()


def counted(saver: S3Saver) -> CountingTransport:
    """Put a counter between a saver and its store."""
    transport = CountingTransport(saver.store.transport)
    saver._transport = Retrying(transport, deadline=5)
    return transport
