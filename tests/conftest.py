"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from checkpoint_base import SQLiteSaver
from checkpoint_base.transport import Retrying, Transport


class CountingTransport:
    """A transport that counts the requests it passes on: the round trips that they would be on a network."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner
        self.requests = 0

    def execute(self, request: Any) -> Any:
        self.requests += 1
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        self.requests += 1
        return await self.inner.aexecute(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


def counted(saver: SQLiteSaver) -> CountingTransport:
    """Put a counter between a saver and its store."""
    transport = CountingTransport(saver.store.transport)
    saver.transport = Retrying(transport, deadline=5)
    return transport


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases of the suite that a class does not want: its ``wants`` takes a case and a colour."""
    left_out = []
    for item in items:
        wants = getattr(getattr(item, "cls", None), "wants", None)
        if wants and isinstance(item, pytest.Function) and not wants(**item.callspec.params):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


@pytest.fixture
def saver(path: Path) -> Iterator[SQLiteSaver]:
    with SQLiteSaver(path) as opened:
        yield opened
