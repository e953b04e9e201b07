"""The conformance suite bound to the saver on S3, on two servers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance


class _OnS3(SaverConformance):
    capabilities = frozenset(Capability)

    @pytest.fixture
    def factory(self, url: str) -> Callable[[], CheckpointSaver]:
        return partial(open_saver, url)

    @pytest.fixture
    def factory_name(self, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("CHECKPOINT_STORE", url)
        return "conformance_tests.factories:from_environment"


class TestRadosgw(_OnS3):
    @pytest.fixture
    def url(self, radosgw_url: str) -> str:
        return radosgw_url


class TestMoto(_OnS3):
    every_colour = False

    @pytest.fixture
    def url(self, moto_url: str) -> str:
        return moto_url
