"""Stores for the examples, and what their tests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from checkpoint_base import open_saver
from tests.faults.backends import BACKENDS, Servers

on_every_backend = pytest.mark.parametrize("store", BACKENDS, indirect=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as started:
        yield started


@pytest.fixture
def store(request: pytest.FixtureRequest, servers: Servers) -> Iterator[str]:
    """The URL of an empty store: on SQLite, or on the backend that the test is given."""
    with servers.backend(getattr(request, "param", "sqlite")) as backend:
        yield backend.url


def config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


def values(store: str, thread: str) -> Mapping[str, Any]:
    with open_saver(store) as saver:
        found = saver.get_tuple(config(thread))
    assert found is not None
    return found.checkpoint["channel_values"]
