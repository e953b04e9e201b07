"""The conformance suite on SQLite."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.suite import SuiteOnURL


class TestSQLite(SuiteOnURL):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{quote(str(tmp_path / 'checkpoints.db'))}"
