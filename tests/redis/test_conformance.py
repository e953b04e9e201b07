"""The conformance suite on Redis: one server, the oldest version, Valkey, a cluster, and through Sentinel.

One server runs all of it. The others speak through the same code to the same scripts, so each of them runs every case
in one of its colours only; in two on a cluster, which has clients of its own. Cases that take seconds, because they
start processes or long sequences, run on one server only. With ``CHECKPOINT_TEST_FULL`` set, all runs everywhere.
"""

from __future__ import annotations

import os
import zlib
from typing import ClassVar

import pytest

from conformance_tests.case import Case
from conformance_tests.trial import Colour
from tests.servers.processes import Server
from tests.servers.redis import Watched
from tests.suite import FULL, SuiteOnURL


class OnRedis(SuiteOnURL):
    colours_each: ClassVar[int] = 1
    """In how many of its colours a case runs."""
    takes_seconds: ClassVar[bool] = False
    """Whether cases that take seconds run, too."""

    @classmethod
    def wants(cls, case: Case, colour: Colour) -> bool:
        """Whether a case runs here in a colour; `tests/conftest.py` leaves out the others."""
        if FULL in os.environ:
            return True
        if case.long and not cls.takes_seconds:
            return False
        colours = sorted(case.colours_for(cls.capabilities))
        first = zlib.crc32(f"{cls.__name__} {case.id}".encode()) % len(colours)
        return colour in (colours * 2)[first : first + cls.colours_each]

    @pytest.fixture
    def url(self, server_url: str, prefix: str) -> str:
        return f"{server_url}?prefix={prefix}"


class TestRedis(OnRedis):
    colours_each, takes_seconds = len(Colour), True

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
    colours_each = 2

    @pytest.fixture
    def server_url(self, cluster_server: Server) -> str:
        return cluster_server.url


class TestSentinel(OnRedis):
    @pytest.fixture
    def server_url(self, watched_server: Watched) -> str:
        return watched_server.url
