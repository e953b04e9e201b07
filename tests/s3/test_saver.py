"""Opening savers: from URLs, with clients and sessions of one's own, in both colours; and what they send."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.utils import parse_timestamp
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import StoreUnavailable, UnsupportedOperation, open_saver
from checkpoint_s3 import S3Saver
from checkpoint_s3.connections import UNANNOUNCED_BYTES, _moment, make_client
from checkpoint_s3.transport import PART_BYTES, Batch, Get
from tests.s3.conftest import ready
from tests.s3.proxy import Answer, Cut, Fault, Proxy, Request
from tests.servers import s3

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def prefix_of(url: str) -> str:
    return urlsplit(url).path.strip("/")


def checkpoint(**values: Any) -> tuple[Any, Any, Any]:
    made: Any = empty_checkpoint()
    versions = dict.fromkeys(values, f"1.{os.urandom(8).hex()}")
    made.update(channel_values=values, channel_versions=versions)
    return made, {"source": "loop", "step": 1}, versions


def put(saver: S3Saver, **values: Any) -> Any:
    return saver.put(CONFIG, *checkpoint(**values))


def found(url: str) -> Any:
    with open_saver(url) as reader:
        tuple_ = reader.get_tuple(CONFIG)
        return tuple_ and tuple_.checkpoint["channel_values"]


def test_a_url_opens_a_saver_in_both_colours(radosgw_url: str) -> None:
    with S3Saver.from_conn_string(radosgw_url) as saver:
        put(saver, n=1)

    async def read() -> Any:
        async with S3Saver.from_conn_string(radosgw_url) as reader:
            return await reader.aget_tuple(CONFIG)

    assert asyncio.run(read()).checkpoint["channel_values"] == {"n": 1}
    with open_saver(radosgw_url) as opened:
        assert isinstance(opened, S3Saver)
    assert found(radosgw_url) == {"n": 1}


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_client_that_was_passed_in_is_used_and_not_closed(radosgw_endpoint: str, colour: str) -> None:
    url = ready(radosgw_endpoint)
    client = boto3.session.Session().client("s3", endpoint_url=radosgw_endpoint)
    closed = []
    client.close = lambda: closed.append(True)  # type: ignore[method-assign]
    saver = S3Saver(s3.BUCKET, prefix_of(url), client=client)
    if colour == "sync":
        with saver:
            put(saver, n=1)
    else:

        async def work() -> None:
            async with saver:
                await saver.aput(CONFIG, *checkpoint(n=1))

        asyncio.run(work())
    assert closed == []
    assert client.list_objects_v2(Bucket=s3.BUCKET, Prefix=prefix_of(url))["KeyCount"] == 2
    del client.close
    client.close()
    assert found(url) == {"n": 1}


def test_a_session_that_was_passed_in_is_where_credentials_come_from(
    radosgw_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ready(radosgw_endpoint)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "not-this-one")
        session = boto3.session.Session(s3.ACCESS_KEY, s3.SECRET_KEY, region_name=s3.REGION)
        with S3Saver(s3.BUCKET, prefix_of(url), session=session, endpoint_url=radosgw_endpoint) as saver:
            put(saver, n=1)
        other = session.client("s3", endpoint_url=radosgw_endpoint)  # the session still works
        assert other.list_objects_v2(Bucket=s3.BUCKET, Prefix=prefix_of(url))["KeyCount"] == 2
        other.close()
    assert found(url) == {"n": 1}


def test_a_closed_saver_says_so(radosgw_url: str) -> None:
    saver = S3Saver.from_conn_string(radosgw_url)
    with saver:
        put(saver, n=1)
    saver.close()
    with pytest.raises(UnsupportedOperation, match="is closed: open another"):
        saver.get_tuple(CONFIG)
    with pytest.raises(UnsupportedOperation, match="is closed: open another"):
        asyncio.run(saver.aget_tuple(CONFIG))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "no bucket|not a URL of a bucket"),
        ("s3://key:secret@bucket/prefix", "has no credentials"),
        ("s3://bucket:9000/prefix", "has no credentials or port"),
        ("s3://bucket/prefix#1", "%23"),
        ("s3://bucket/prefix?endpoint_url=http://user:secret@localhost:9000", "endpoint_url has no credentials"),
        ("s3://bucket/prefix?unknown=1", "unknown option 'unknown'"),
        ("s3://bucket/prefix?grace=soon", "write a number of seconds"),
        ("s3://bucket/prefix?sse=rot13", "write AES256, aws:kms"),
        ("s3://bucket/prefix?sse=AES256&sse_kms_key_id=k", "is for sse='aws:kms'"),
        ("s3://bucket/" + "p" * 129, "up to 128 bytes"),
        ("s3://bucket/a%0Ab", "all printable"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, said: str) -> None:
    with pytest.raises(UnsupportedOperation, match=said) as error:
        open_saver(url)
    assert "secret" not in str(error.value)


def test_a_prefix_that_is_no_text_is_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="all printable"):
        S3Saver("bucket", "a\ud800")


def test_arguments_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="client= has its own session"):
        S3Saver("bucket", client=object(), endpoint_url="http://localhost")
    with pytest.raises(UnsupportedOperation, match="has a profile already"):
        S3Saver("bucket", session=object(), profile_name="default")
    with pytest.raises(UnsupportedOperation, match="'us-east-1' as an argument and 'eu-west-1' in the URL"):
        S3Saver.from_conn_string("s3://bucket?region_name=eu-west-1", region_name="us-east-1")


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf")])
def test_a_grace_period_is_a_number_of_seconds(grace: float) -> None:
    with pytest.raises(UnsupportedOperation, match=r"grace=.*0 or more"):
        S3Saver("bucket", grace=grace)


@pytest.mark.parametrize(("grace", "deadline"), [(2, 30), (59, 30), (120, 100), (20, 0)])
def test_a_grace_period_in_which_a_request_may_still_be_repeated_is_refused(grace: float, deadline: float) -> None:
    with pytest.raises(UnsupportedOperation, match=f"grace={grace} is too short for deadline={deadline}.*or more"):
        S3Saver("bucket", grace=grace, deadline=deadline)


def test_a_grace_period_that_is_long_enough_for_the_deadline_or_none_at_all_is_accepted() -> None:
    for grace, deadline in ((0, 30), (60, 30), (24, 0), (150, 100)):
        S3Saver("bucket", grace=grace, deadline=deadline).close()


def test_the_timeouts_of_a_client_that_was_passed_in_count_towards_the_grace_period() -> None:
    def client(**timeouts: float) -> Any:
        return boto3.session.Session().client("s3", region_name=s3.REGION, config=Config(**timeouts))

    with closing(client()) as usual:
        S3Saver("bucket", client=usual)
    with closing(client(read_timeout=2, connect_timeout=1)) as quick:
        S3Saver("bucket", client=quick, grace=6, deadline=3)
    with (
        closing(client(read_timeout=200)) as slow,
        pytest.raises(UnsupportedOperation, match=r"grace=120 is too short .*timeout of 200 .*grace=276 or more"),
    ):
        S3Saver("bucket", client=slow)


def test_what_boto3_cannot_use_is_refused_in_one_line(radosgw_endpoint: str) -> None:
    place = {"endpoint_url": radosgw_endpoint, "region_name": s3.REGION}
    for saver, said in (
        (S3Saver("no bucket", **place), "'no bucket': .*Invalid bucket name"),
        (S3Saver("bucket", profile_name="nobody"), "profile .nobody. could not be found"),
    ):
        with pytest.raises(UnsupportedOperation, match=said) as error, saver:
            pass
        assert "\n" not in str(error.value)


def test_a_prefix_may_hold_any_printable_text(radosgw_endpoint: str) -> None:
    base = prefix_of(ready(radosgw_endpoint))
    url = s3.s3_url(radosgw_endpoint, prefix=f"{base}/a%20b%2B%23%3F%25/%C3%A9")
    with S3Saver.from_conn_string(url) as saver:
        put(saver, n=1)
    client = make_client(endpoint_url=radosgw_endpoint)
    keys = client.list_objects_v2(Bucket=s3.BUCKET, Prefix=f"{base}/a b+#?%/é/t/")
    client.close()
    assert keys["KeyCount"] == 1
    assert found(url) == {"n": 1}


def test_async_calls_run_on_as_many_threads_as_the_client_has_connections(radosgw_url: str) -> None:
    before = {*threading.enumerate()}

    def ours() -> int:
        return sum(each.name.startswith("checkpoint-s3") for each in {*threading.enumerate()} - before)

    async def work() -> int:
        async with S3Saver.from_conn_string(radosgw_url) as saver:
            most = 0
            configs = [{"configurable": {"thread_id": f"{n}", "checkpoint_ns": ""}} for n in range(60)]
            tasks = [asyncio.ensure_future(saver.aput(config, *checkpoint(n=1))) for config in configs]  # type: ignore[arg-type]
            while not all(task.done() for task in tasks):
                most = max(most, ours())
                await asyncio.sleep(0.001)
            await asyncio.gather(*tasks)
            return most

    assert 1 < asyncio.run(work()) <= 32
    assert ours() == 0


def test_threads_that_call_at_once_leave_no_connection_over(
    radosgw_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    callers, calls_each = 8, 5
    everyone = threading.Barrier(callers * calls_each)

    def together(request: Request) -> Request:
        everyone.wait(timeout=30)
        return request

    with (
        Proxy(radosgw_endpoint) as proxy,
        S3Saver(s3.BUCKET, "app", endpoint_url=proxy.url) as saver,
        ThreadPoolExecutor(callers) as threads,
    ):
        proxy.arriving = together
        requests = [Batch([Get("missing")] * calls_each) for _ in range(callers)]
        found = list(threads.map(saver.store.transport.execute, requests))
    assert found == [[None] * calls_each] * callers
    assert "pool is full" not in caplog.text


def test_a_forked_process_has_connections_of_its_own(radosgw_url: str) -> None:
    def child(saver: S3Saver, n: int, results: Any) -> None:
        saver.put_writes(config, [("a", n)], f"task-{n}")
        results.put((n, saver.get_tuple(CONFIG).checkpoint["channel_values"]))  # type: ignore[union-attr]
        saver.close()

    with S3Saver.from_conn_string(radosgw_url) as saver:
        config = put(saver, n=1)
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        children = [context.Process(target=child, args=(saver, n, results)) for n in range(3)]
        for each in children:
            each.start()
        answers = [results.get(timeout=60) for _ in children]
        for each in children:
            each.join()
        saver.put_writes(config, [("a", 3)], "task-3")
    assert sorted(answers) == [(n, {"n": 1}) for n in range(3)]
    with open_saver(radosgw_url) as reader:
        assert reader.get_tuple(CONFIG).pending_writes == [(f"task-{n}", "a", n) for n in range(4)]  # type: ignore[union-attr]


def test_a_client_of_ones_own_is_refused_in_a_forked_process_which_would_share_its_connections(
    radosgw_endpoint: str,
) -> None:
    def child(saver: S3Saver, outcomes: Any) -> None:
        def refused(call: Callable[[], Any]) -> str:
            try:
                return f"answered {call()}"
            except UnsupportedOperation as error:
                return str(error)

        outcomes.put(refused(lambda: saver.get_tuple(CONFIG)))
        outcomes.put(refused(lambda: put(saver, n=2)))
        outcomes.put(refused(lambda: asyncio.run(saver.aget_tuple(CONFIG))))
        saver.close()

    url = ready(radosgw_endpoint)
    client = boto3.session.Session().client("s3", endpoint_url=radosgw_endpoint)
    with closing(client), S3Saver(s3.BUCKET, prefix_of(url), client=client) as saver:
        put(saver, n=1)  # opens a connection
        context = multiprocessing.get_context("fork")
        outcomes = context.Queue()
        forked = context.Process(target=child, args=(saver, outcomes))
        forked.start()
        answers = [outcomes.get(timeout=60) for _ in range(3)]
        forked.join()
        assert saver.get_tuple(CONFIG).checkpoint["channel_values"] == {"n": 1}  # type: ignore[union-attr]
    assert forked.exitcode == 0
    for answer in answers:
        assert "before this process was forked" in answer
        assert "leave client= out" in answer


# What is sent


@pytest.fixture
def proxy(radosgw_endpoint: str) -> Iterator[Proxy]:
    with Proxy(radosgw_endpoint) as running:
        yield running


@pytest.fixture
def through(radosgw_endpoint: str, proxy: Proxy) -> str:
    return s3.s3_url(proxy.url, prefix=prefix_of(ready(radosgw_endpoint)))


@pytest.mark.parametrize(("size", "asks"), [(UNANNOUNCED_BYTES * 9 // 10, False), (UNANNOUNCED_BYTES, True)])
def test_only_for_an_object_above_1_mib_the_store_is_asked_first(
    through: str, proxy: Proxy, size: int, asks: bool
) -> None:
    content = {"bytes": random.Random(1).randbytes(size)}
    with S3Saver.from_conn_string(through) as saver:
        put(saver, **content)
    (sent,) = [request for request in proxy.requests if request.method == "PUT"]
    assert sent.has("Expect") is asks
    assert found(through) == content


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_requests_are_made_in_the_context_of_their_caller(radosgw_endpoint: str, colour: str) -> None:
    caller = ContextVar("caller", default="nobody")
    seen: list[tuple[str, str]] = []
    client = boto3.session.Session().client("s3", endpoint_url=radosgw_endpoint)
    client.meta.events.register("before-call.s3", lambda model, **_: seen.append((model.name, caller.get())))
    saver = S3Saver(s3.BUCKET, prefix_of(ready(radosgw_endpoint)), client=client)

    async def work() -> None:
        async with saver:
            await saver.aput(CONFIG, *checkpoint(n=random.randbytes(PART_BYTES)))
            await saver.aget_tuple(CONFIG)

    caller.set("request 17")
    if colour == "sync":
        with saver:
            put(saver, n=random.randbytes(PART_BYTES))
            saver.get_tuple(CONFIG)
    else:
        asyncio.run(work())
    assert {name for name, _ in seen} >= {"UploadPart", "GetObject", "ListObjectsV2"}
    assert {of for _, of in seen} == {"request 17"}


@pytest.mark.parametrize("application", ["", "approvals"])
def test_requests_name_the_client_and_the_application_of_boto3s_configuration(
    through: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, application: str
) -> None:
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", application)
    with S3Saver.from_conn_string(through) as saver:
        put(saver, n=1)
    assert proxy.requests
    for request in proxy.requests:
        named = dict(request.headers)["User-Agent"]
        assert "Botocore/" in named
        assert "checkpoint-backends" in named
        assert ("app/approvals" in named) is bool(application)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678Z",
        "2026-01-02T03:04:05+02:00",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 2026 03:04:05 -0000",
        "Friday, 02-Jan-26 03:04:05 GMT",
        "1767323045",
        1767323045,
        1767323045.5,
    ],
)
def test_a_time_in_an_answer_is_read_as_boto3_reads_it(text: Any) -> None:
    assert _moment(text) == parse_timestamp(text)


LARGE = {"bytes": random.Random(1).randbytes(2 * PART_BYTES + 1000), "n": 1}


def is_part(request: Request) -> bool:
    return "partNumber=" in request.target


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.target


NOT_OF_S3 = Answer(200, (("Content-Type", "text/html"),), b"<html>Try again later<br></html>")
"""An answer of something between."""

EMPTY = Answer(200, (), b"")
"""An answer without an ETag."""


def uploads(endpoint: str, url: str) -> Any:
    client = make_client(endpoint_url=endpoint)
    try:
        return client.list_multipart_uploads(Bucket=s3.BUCKET, Prefix=prefix_of(url)).get("Uploads", [])
    finally:
        client.close()


def test_an_object_above_16_mb_is_uploaded_in_parts(radosgw_endpoint: str, through: str, proxy: Proxy) -> None:
    with S3Saver.from_conn_string(through) as saver:
        put(saver, **LARGE)
    assert sum(is_part(request) for request in proxy.requests) == 3
    assert max(len(request.body) for request in proxy.requests) == PART_BYTES
    assert found(through) == LARGE
    assert uploads(radosgw_endpoint, through) == []


def test_an_upload_of_which_a_part_fails_is_done_again_or_leaves_nothing(
    radosgw_endpoint: str, through: str, proxy: Proxy
) -> None:
    with S3Saver.from_conn_string(through, deadline=20) as saver:
        fault = proxy.arm(Fault(Cut, "after", is_part))
        put(saver, **LARGE)
        assert fault.met == 1
    proxy.pass_all()
    assert found(through) == LARGE
    for error, fails in ((Cut, is_part), (EMPTY, is_part), (NOT_OF_S3, is_completion)):
        with S3Saver.from_conn_string(through, deadline=0) as saver:
            fault = proxy.arm(Fault(error, "before", fails, times=100))
            with pytest.raises(StoreUnavailable):
                put(saver, **{**LARGE, "n": 2})
            assert fault.met >= 1
        proxy.pass_all()
        assert found(through) == LARGE
        assert uploads(radosgw_endpoint, through) == []


def test_large_writes_of_one_task_are_those_of_who_stored_them_first(radosgw_url: str) -> None:
    for value in (LARGE, {**LARGE, "n": 2}):
        with S3Saver.from_conn_string(radosgw_url) as saver:
            saver.put_writes({"configurable": {**CONFIG["configurable"], "checkpoint_id": "1"}}, [("a", value)], "task")
    made, *rest = checkpoint(n=1)
    with open_saver(radosgw_url) as reader:
        reader.put(CONFIG, {**made, "id": "1"}, *rest)
        assert reader.get_tuple(CONFIG).pending_writes == [("task", "a", LARGE)]  # type: ignore[union-attr]


def test_every_object_is_encrypted_as_it_was_asked_for(moto_endpoint: str) -> None:
    """On moto, which stores the header and needs no key for it."""
    with Proxy(moto_endpoint) as watching:
        url = s3.s3_url(watching.url, prefix=prefix_of(ready(moto_endpoint))) + "&sse=aws:kms&sse_kms_key_id=our-key"
        with S3Saver.from_conn_string(url) as saver:
            config = put(saver, **LARGE)
            saver.put_writes(config, [("a", 1)], "task")
            saver.copy_thread("thread", "copy")
            saver.prune(["copy"])
        made = [
            request
            for request in watching.requests
            if (request.method == "PUT" and not is_part(request)) or "uploads" in request.target
        ]
    assert {request.method for request in made} == {"PUT", "POST"}
    assert any(request.has("x-amz-copy-source") for request in made)
    for request in made:
        headers = {name.lower(): value for name, value in request.headers}
        assert headers["x-amz-server-side-encryption"] == "aws:kms", request.target
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "our-key", request.target
