"""Every backend in turn, empty, and processes to kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.backends import BACKENDS, Backend, Servers
from tests.faults.worker import Processes


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers that start when they are first needed."""
    with Servers() as started:
        yield started


@pytest.fixture(scope="session")
def processes(servers: Servers) -> Iterator[Processes]:
    """Processes with the environment that ``servers`` need."""
    with Processes() as started:
        yield started


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Backend]:
    """An empty store of each backend."""
    with servers.backend(request.param) as opened:
        yield opened
