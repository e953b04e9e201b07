"""S3 servers for the tests: Ceph's radosgw, and moto."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import boto3
import pytest

from checkpoint_s3.transport import client_config
from tests.servers import s3

SERVICE = "CHECKPOINT_TEST_S3_URL"


@pytest.fixture(scope="session", autouse=True)
def credentials() -> Iterator[None]:
    """What boto3 finds, in this process and in those that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        if SERVICE not in os.environ:
            patch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
            patch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
            patch.setenv("AWS_DEFAULT_REGION", s3.REGION)
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def radosgw_endpoint(credentials: None) -> Iterator[str]:
    with s3.radosgw() as server:
        make_bucket(server.url)
        yield server.url


@pytest.fixture(scope="session")
def moto_endpoint(credentials: None) -> Iterator[str]:
    with s3.moto() as server:
        make_bucket(server.url)
        yield server.url


def make_bucket(endpoint: str) -> None:
    client = boto3.session.Session().client("s3", endpoint_url=endpoint, config=client_config())
    client.create_bucket(Bucket=s3.BUCKET)
    client.close()


@pytest.fixture
def radosgw_url(radosgw_endpoint: str) -> str:
    """A prefix of a test's own."""
    return s3.s3_url(radosgw_endpoint, prefix=uuid4().hex)


@pytest.fixture
def moto_url(moto_endpoint: str) -> str:
    return s3.s3_url(moto_endpoint, prefix=uuid4().hex)
