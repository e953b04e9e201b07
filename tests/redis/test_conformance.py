"""The conformance suite on Redis: one server, the oldest version, Valkey, a cluster, and through Sentinel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance
from tests.servers.processes import Server
from tests.servers.redis import Watched


class OnRedis(SaverConformance):
    capabilities = frozenset(Capability)

    @pytest.fixture
    def url(self, server_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> str:
        url = f"{server_url}?prefix={prefix}"
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


class TestOldestRedis(OnRedis):
    @pytest.fixture
    def server_url(self, oldest_server: Server) -> str:
        return oldest_server.url


class TestValkey(OnRedis):
    @pytest.fixture
    def server_url(self, valkey_server: Server) -> str:
        return valkey_server.url


class TestCluster(OnRedis):
    @pytest.fixture
    def server_url(self, cluster_server: Server) -> str:
        return cluster_server.url


class TestSentinel(OnRedis):
    @pytest.fixture
    def server_url(self, watched_server: Watched) -> str:
        return watched_server.url
