"""Which buckets and stores are used, and which are refused before anything is written to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from checkpoint_base import SchemaMismatch, UnsupportedOperation, open_saver
from checkpoint_s3.connections import make_client
from tests.s3.conftest import ready
from tests.s3.proxy import Answer, Proxy, Request, error_answer, ignoring, unsorted
from tests.servers import s3


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[Proxy]:
    """In front of moto, which does not check signatures: what has been changed on its way counts."""
    with Proxy(moto_endpoint) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


def stored(endpoint: str, prefix: str) -> dict[str, bytes]:
    client = make_client(endpoint_url=endpoint)
    try:
        entries = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{prefix}/").get("Contents", ())
        keys = [entry["Key"] for entry in entries]
        return {
            key.removeprefix(f"{prefix}/"): client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read() for key in keys
        }
    finally:
        client.close()


def test_a_new_prefix_is_marked_and_nothing_of_the_look_at_the_store_stays(
    radosgw_endpoint: str, moto_endpoint: str, prefix: str
) -> None:
    for endpoint in (radosgw_endpoint, moto_endpoint):
        with open_saver(s3.s3_url(endpoint, prefix=prefix)):
            assert stored(endpoint, prefix) == {"format": b'{"application":"checkpoint-backends","format":1}'}


def test_through_the_proxy_the_store_is_accepted(proxy: Proxy, prefix: str) -> None:
    with open_saver(s3.s3_url(proxy.url, prefix=prefix)) as saver:
        assert list(saver.threads()) == []


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_a_store_that_ignores_a_condition_is_refused(
    proxy: Proxy, moto_endpoint: str, prefix: str, header: str
) -> None:
    proxy.arriving = ignoring(header)
    saver = open_saver(s3.s3_url(proxy.url, prefix=prefix))
    with pytest.raises(UnsupportedOperation, match=f"ignores `{header}"):
        saver.setup()
    with pytest.raises(UnsupportedOperation, match=f"ignores `{header}"):  # nor by a first call
        saver.get_tuple({"configurable": {"thread_id": "thread"}})
    saver.close()
    assert stored(moto_endpoint, prefix) == {}


def test_whoever_may_not_delete_is_told_what_the_store_lacks_and_can_use_one_that_lacks_nothing(
    proxy: Proxy, prefix: str
) -> None:
    ignored = ignoring("If-Match")
    saver = open_saver(s3.s3_url(proxy.url, prefix=prefix))
    proxy.arriving = lambda request: (
        error_answer(403, "AccessDenied") if request.method == "DELETE" else ignored(request)
    )
    with pytest.raises(UnsupportedOperation, match="ignores `If-Match"):
        saver.setup()
    proxy.arriving = lambda request: error_answer(403, "AccessDenied") if request.method == "DELETE" else request
    saver.setup()
    assert list(saver.threads()) == []
    saver.close()


def with_other_etags(_: Request, answer: Answer) -> Answer:
    headers = [(name, value[::-1] if name.lower() == "etag" else value) for name, value in answer.headers]
    return replace(answer, headers=tuple(headers))


@pytest.mark.parametrize(
    ("returning", "reason"),
    [
        (unsorted, "does not list all keys in order"),
        (with_other_etags, "does not accept `If-Match` with its own ETag"),
    ],
)
def test_a_store_whose_answers_are_of_no_use_is_refused(
    proxy: Proxy, moto_endpoint: str, prefix: str, returning: Callable[[Request, Answer], Answer], reason: str
) -> None:
    proxy.returning = returning
    with pytest.raises(UnsupportedOperation, match=reason), open_saver(s3.s3_url(proxy.url, prefix=prefix)):
        pass
    assert stored(moto_endpoint, prefix) == {}


def test_a_directory_bucket_of_s3_express_is_refused() -> None:
    with (
        pytest.raises(UnsupportedOperation, match="directory bucket"),
        open_saver("s3://fast--use1-az4--x-s3/prefix"),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"application":"checkpoint-backends","format":2}', "has format 2, .*upgrade"),
        (b'{"application":"another","format":1}', "belongs to 'another'"),
        (b"a file of somebody's", "is not ours"),
        (b"", "is not ours"),
        (b"[]", "is not ours"),
    ],
)
def test_what_belongs_to_others_or_to_a_newer_version_is_left_as_it_is(
    radosgw_endpoint: str, prefix: str, content: bytes, said: str
) -> None:
    client = make_client(endpoint_url=radosgw_endpoint)
    client.put_object(Bucket=s3.BUCKET, Key=f"{prefix}/format", Body=content)
    client.close()
    with pytest.raises(SchemaMismatch, match=said), open_saver(s3.s3_url(radosgw_endpoint, prefix=prefix)):
        pass
    assert stored(radosgw_endpoint, prefix) == {"format": content}


def test_many_may_set_up_at_once(radosgw_endpoint: str, prefix: str) -> None:
    async def all_at_once() -> None:
        savers = [open_saver(s3.s3_url(radosgw_endpoint, prefix=prefix)) for _ in range(12)]
        await asyncio.gather(*(saver.asetup() for saver in savers))
        await asyncio.gather(*(saver.aclose() for saver in savers))

    asyncio.run(all_at_once())
    assert list(stored(radosgw_endpoint, prefix)) == ["format"]


def test_setting_up_again_costs_two_requests_and_writes_nothing(radosgw_endpoint: str) -> None:
    url = ready(radosgw_endpoint)
    with Proxy(radosgw_endpoint) as watching:
        prefix = url.removeprefix(f"s3://{s3.BUCKET}/").partition("?")[0]
        with open_saver(s3.s3_url(watching.url, prefix=prefix)):
            assert [request.method for request in watching.requests] == ["GET", "GET"]
