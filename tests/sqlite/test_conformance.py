"""The conformance suite bound to this project's savers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from checkpoint_base import CheckpointSaver, open_saver
from conformance_tests import Capability, SaverConformance


class TestSQLite(SaverConformance):
    capabilities = frozenset(Capability)

    @pytest.fixture
    def url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        url = f"sqlite:///{quote(str(tmp_path / 'checkpoints.db'))}"
        monkeypatch.setenv("CHECKPOINT_STORE", url)
        return url

    @pytest.fixture
    def factory(self, url: str) -> Callable[[], CheckpointSaver]:
        return partial(open_saver, url)

    @pytest.fixture
    def factory_name(self, url: str) -> str:
        return "conformance_tests.factories:from_environment"
