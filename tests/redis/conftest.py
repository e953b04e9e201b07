"""Redis servers for a test session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers.redis import redis

REDIS_URL = "CHECKPOINT_TEST_REDIS_URL"


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis that tests share; each uses a prefix of its own."""
    if url := os.environ.get(REDIS_URL):
        yield url
        return
    with redis() as server:
        yield server.url
