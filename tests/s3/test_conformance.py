"""The conformance suite bound to the saver on S3, on two servers.

With ``CHECKPOINT_TEST_FULL`` set, radosgw runs what only moto runs otherwise, too.
"""

from __future__ import annotations

import os
from uuid import uuid4

import pytest

from conformance_tests.case import Case
from conformance_tests.trial import Colour
from tests.s3.conftest import make_bucket, ready
from tests.suite import FULL, SuiteOnURL


class TestRadosgw(SuiteOnURL):
    """Runs each case in each colour; on moto, it runs in both by turns."""

    @classmethod
    def wants(cls, case: Case, colour: Colour) -> bool:
        return FULL in os.environ or cls.has_its_own_colour(case, colour)

    @pytest.fixture
    def url(self, radosgw_url: str) -> str:
        return radosgw_url


class TestMoto(SuiteOnURL):
    every_colour = False

    @staticmethod
    def wants(case: Case, colour: Colour) -> bool:
        return FULL in os.environ or not (case.long and case.once)  # moto takes twice as long as radosgw

    @pytest.fixture
    def url(self, moto_endpoint: str) -> str:
        # To list some keys, moto goes through all keys of a bucket.
        bucket = f"bucket-{uuid4().hex}"
        make_bucket(moto_endpoint, bucket)
        return ready(moto_endpoint, bucket)
