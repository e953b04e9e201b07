"""The conformance suite bound to the saver on S3, on two servers."""

from __future__ import annotations

import pytest

from tests.suite import SuiteOnURL


class TestRadosgw(SuiteOnURL):
    @pytest.fixture
    def url(self, radosgw_url: str) -> str:
        return radosgw_url


class TestMoto(SuiteOnURL):
    every_colour = False

    @pytest.fixture
    def url(self, moto_url: str) -> str:
        return moto_url
