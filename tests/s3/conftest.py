"""S3 servers for the tests: Ceph's radosgw, and moto."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias
from uuid import uuid4

import pytest

from checkpoint_s3 import S3Saver
from checkpoint_s3.connections import make_client
from checkpoint_s3.survey import Surveyor
from checkpoint_s3.transport import Found, Page, S3Transport
from tests.servers import s3

Two: TypeAlias = tuple[S3Saver, S3Saver]

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
        for client in _clients.values():
            client.close()


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


_clients: dict[str, Any] = {}
"""By endpoint: making one takes 25 ms, longer than some tests."""


def _client(endpoint: str) -> Any:
    if endpoint not in _clients:
        _clients[endpoint] = make_client(endpoint_url=endpoint)
    return _clients[endpoint]


def make_bucket(endpoint: str, bucket: str = s3.BUCKET) -> None:
    _client(endpoint).create_bucket(Bucket=bucket)


def ready(endpoint: str, bucket: str = s3.BUCKET) -> str:
    """The URL of a prefix of a test's own, already marked as ours: setting up a new one looks at the store first."""
    prefix = uuid4().hex
    _client(endpoint).put_object(
        Bucket=bucket, Key=f"{prefix}/format", Body=b'{"application":"checkpoint-backends","format":1}'
    )
    return s3.s3_url(endpoint, bucket, prefix)


@pytest.fixture
def radosgw_url(radosgw_endpoint: str) -> str:
    return ready(radosgw_endpoint)


@pytest.fixture
def moto_url(moto_endpoint: str) -> str:
    return ready(moto_endpoint)


@pytest.fixture
def two(moto_url: str) -> Iterator[Two]:
    """Savers that know nothing of each other, as in two processes."""
    with S3Saver.from_conn_string(moto_url) as one, S3Saver.from_conn_string(moto_url) as other:
        yield one, other


@pytest.fixture
def careless(radosgw_url: str) -> Iterator[Two]:
    """Savers on a store that deletes objects whatever the condition is."""
    with S3Saver.from_conn_string(radosgw_url) as one, S3Saver.from_conn_string(radosgw_url) as other:
        yield one, other


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds go by, as far as a store tells in its answers and a process on its clock."""
    leaps: list[tuple[float, float]] = []
    get, list_, elapsed = S3Transport._get, S3Transport._list, Surveyor.elapsed

    def told(moment: float) -> float:
        return moment + sum(seconds for at, seconds in leaps if moment >= at)

    def aged(*arguments: Any) -> Found | None:
        found = get(*arguments)
        if found is None:
            return None
        now = found.now / 1_000_000
        return replace(found, age=told(now) - told(now - found.age), now=int(told(now) * 1_000_000))

    def aged_page(*arguments: Any) -> Page:
        page = list_(*arguments)
        entries = [replace(entry, modified=told(entry.modified)) for entry in page.entries]
        return replace(page, entries=entries, now=int(told(page.now / 1_000_000) * 1_000_000))

    def pass_by(seconds: float) -> None:
        time.sleep(1.05 - time.time() % 1)  # answers tell whole seconds
        leaps.append((int(time.time()), seconds))

    monkeypatch.setattr(S3Transport, "_get", aged)
    monkeypatch.setattr(S3Transport, "_list", aged_page)
    monkeypatch.setattr(Surveyor, "elapsed", staticmethod(lambda: elapsed() + sum(seconds for _, seconds in leaps)))
    return pass_by
