"""S3 servers for the tests: Ceph's radosgw, and moto."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from checkpoint_s3.connections import make_client
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
    client = make_client(endpoint_url=endpoint)
    client.create_bucket(Bucket=s3.BUCKET)
    client.close()


def ready(endpoint: str) -> str:
    """The URL of a prefix of a test's own, already marked as ours: setting up a new one looks at the store first."""
    prefix = uuid4().hex
    client = make_client(endpoint_url=endpoint)
    client.put_object(
        Bucket=s3.BUCKET, Key=f"{prefix}/format", Body=b'{"application":"checkpoint-backends","format":1}'
    )
    client.close()
    return s3.s3_url(endpoint, prefix=prefix)


@pytest.fixture
def radosgw_url(radosgw_endpoint: str) -> str:
    return ready(radosgw_endpoint)


@pytest.fixture
def moto_url(moto_endpoint: str) -> str:
    return ready(moto_endpoint)
