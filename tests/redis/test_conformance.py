"""The conformance suite on Redis: one server, a cluster, through Sentinel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance


class OnRedis(SaverConformance):
    capabilities = frozenset(Capability)

    @pytest.fixture
    def url(self, server_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
        url = f"{server_url}?prefix={uuid4().hex}"
        monkeypatch.setenv("CHECKPOINT_STORE", url)
        return url

    @pytest.fixture
    def factory(self, url: str) -> Callable[[], CheckpointSaver]:
        return partial(open_saver, url)

    @pytest.fixture
    def factory_name(self, url: str) -> str:
        return "conformance_tests.factories:from_environment"


class TestRedis(OnRedis):
    @pytest.fixture
    def server_url(self, redis_url: str) -> str:
        return redis_url
