"""Errors that a store answers, and answers that do not arrive, are taken for what they mean."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import CheckpointError, StoreUnavailable, UnsupportedOperation, open_saver, transport
from checkpoint_s3 import S3Saver
from checkpoint_s3.transport import Batch, Delete, List
from tests.s3.conftest import ready
from tests.s3.proxy import Answer, Cut, CutShort, Fault, Moment, Proxy, Request, error_answer
from tests.s3.transports import Between, between
from tests.servers import s3
from tests.servers.certificates import certificate
from tests.servers.processes import HOST

ERRORS = {
    "409 conflict": error_answer(409, "ConditionalRequestConflict"),
    "409 aborted": error_answer(409, "OperationAborted"),
    "429": error_answer(429, "TooManyRequests"),
    "500": error_answer(500, "InternalError"),
    "502 of something between": Answer(502, (("Content-Type", "text/html"),), b"<html>Bad gateway</html>"),
    "503 slow down": error_answer(503, "SlowDown"),
    "503": error_answer(503, "ServiceUnavailable"),
    "400 timeout": error_answer(400, "RequestTimeout"),
    "400 expired": error_answer(400, "ExpiredToken"),
    "403 clocks differ": error_answer(403, "RequestTimeTooSkewed"),
    "reset": Cut,
}
"""Which pass: the request may have been carried out, or not."""

MOMENTS: tuple[Moment, ...] = ("before", "after")

KINDS = ("409 conflict", "500", "502 of something between", "503 slow down", "reset")
"""One of each kind; that the others are of a kind is shown by reads."""

passing = pytest.mark.parametrize("error", [ERRORS[kind] for kind in KINDS], ids=KINDS)
moments = pytest.mark.parametrize("moment", MOMENTS)


@pytest.fixture(scope="module")
def proxy(radosgw_endpoint: str) -> Iterator[Proxy]:
    with Proxy(radosgw_endpoint) as running:
        yield running


@pytest.fixture
def url(radosgw_endpoint: str, proxy: Proxy) -> Iterator[str]:
    """The URL of a prefix of the test's own, through the proxy."""
    proxy.pass_all()
    proxy.requests.clear()
    prefix = urlsplit(ready(radosgw_endpoint)).path.strip("/")
    yield s3.s3_url(proxy.url, prefix=prefix)
    proxy.pass_all()


@pytest.fixture
def saver(url: str) -> Iterator[S3Saver]:
    with S3Saver.from_conn_string(url, deadline=10) as opened:
        yield opened


CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def put(saver: S3Saver, n: int, config: Any = CONFIG) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions: Any = {"n": saver.get_next_version(None, None)}
    checkpoint.update(channel_values={"n": n}, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": n}, versions)


def read(url: str) -> tuple[list[int], list[Any]]:
    """The values of the thread's checkpoints and the latest one's writes, by a saver that has seen nothing before."""
    with open_saver(url) as reader:
        found = list(reader.list(CONFIG))
        return [each.checkpoint["channel_values"]["n"] for each in found], (found[0].pending_writes or [])


def is_conditional(request: Request) -> bool:
    return request.method == "PUT" and request.has("If-None-Match")


def is_ledger(request: Request) -> bool:
    return request.method == "PUT" and request.key.endswith("/!")


def is_asking_for_the_ledger(request: Request) -> bool:
    return request.method == "GET" and request.key.endswith("/!")


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def is_get(request: Request) -> bool:
    return request.method == "GET" and request.key != "" and "/t/" in request.key


def is_list(request: Request) -> bool:
    return request.method == "GET" and request.key == ""


@passing
@moments
def test_a_checkpoint_is_stored_once_whatever_the_first_answer_is(
    saver: S3Saver, url: str, proxy: Proxy, error: Any, moment: Moment
) -> None:
    fault = proxy.arm(Fault(error, moment, is_put))
    put(saver, 7)
    assert fault.met == 1
    assert read(url) == ([7], [])


@passing
@moments
def test_writes_of_which_it_is_unknown_whether_they_are_stored_are_stored_once(
    saver: S3Saver, url: str, proxy: Proxy, error: Any, moment: Moment
) -> None:
    config = put(saver, 1)
    fault = proxy.arm(Fault(error, moment, is_conditional))
    saver.put_writes(config, [("a", 1), ("b", 2)], "task")
    saver.put_writes(config, [("c", 3)], "another")
    assert fault.met == 1
    assert sorted(read(url)[1]) == [("another", "c", 3), ("task", "a", 1), ("task", "b", 2)]


@passing
@moments
def test_writes_that_somebody_else_stored_meanwhile_are_theirs(
    saver: S3Saver, url: str, proxy: Proxy, error: Any, moment: Moment
) -> None:
    """The error comes to one who is second: the look afterwards must not take the first one's for its own."""
    config = put(saver, 1)
    with S3Saver.from_conn_string(url) as other:
        other.put_writes(config, [("a", "theirs")], "task")
    fault = proxy.arm(Fault(error, moment, is_conditional))
    saver.put_writes(config, [("a", "ours"), ("b", "ours too")], "task")
    assert fault.met == 1
    assert read(url)[1] == [("task", "a", "theirs"), ("task", "b", "ours too")]


@passing
@moments
def test_a_removal_of_which_it_is_unknown_whether_it_was_done_is_done(
    saver: S3Saver, url: str, proxy: Proxy, error: Any, moment: Moment
) -> None:
    first = put(saver, 1)
    put(saver, 2, first)
    fault = proxy.arm(Fault(error, moment, is_ledger))
    saver.prune(["thread"])
    assert fault.met == 1
    assert read(url) == ([2], [])


@pytest.mark.parametrize("error", ERRORS.values(), ids=list(ERRORS))
def test_a_read_is_repeated(saver: S3Saver, url: str, proxy: Proxy, error: Any) -> None:
    put(saver, 1)
    for kind in (is_list, is_get):
        fault = proxy.arm(Fault(error, "after", kind))
        assert read(url)[0] == [1]
        assert fault.met == 1


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_of_requests_that_are_sent_together_only_those_are_repeated_that_failed(
    saver: S3Saver, url: str, proxy: Proxy, colour: str
) -> None:
    config = CONFIG
    for number in range(20):
        config = put(saver, number, config)
    proxy.requests.clear()
    fault = proxy.arm(Fault(ERRORS["503 slow down"], "before", is_get, times=3))

    async def listed() -> int:
        async with S3Saver.from_conn_string(url) as reader:
            return len([each async for each in reader.alist(CONFIG)])

    if colour == "sync":
        with S3Saver.from_conn_string(url) as reader:
            assert len(list(reader.list(CONFIG))) == 20
    else:
        assert asyncio.run(listed()) == 20
    assert fault.met == 3
    asked = Counter(request.key for request in proxy.requests if is_get(request))
    assert sum(asked.values()) == len(asked) + 3


def test_an_object_that_arrives_in_part_is_asked_for_again(saver: S3Saver, url: str, proxy: Proxy) -> None:
    put(saver, 1)
    for kind in (is_list, is_get):
        fault = proxy.arm(Fault(CutShort, "after", kind))
        assert read(url)[0] == [1]
        assert fault.met == 1


def test_a_listing_that_is_cut_off_before_its_first_key_is_asked_for_again(
    saver: S3Saver, url: str, proxy: Proxy
) -> None:
    put(saver, 1)
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    fault = proxy.arm(Fault(Answer(200, (("Content-Type", "application/xml"),), page), "before", is_list))
    assert read(url)[0] == [1]
    assert fault.met == 1


def test_writes_are_stored_when_those_that_they_follow_are_removed_meanwhile(url: str) -> None:
    class Removing(Between):
        """Removes what the first listing has found, before it can be read."""

        removed = 0

        def execute(self, request: Any) -> Any:
            answer = super().execute(request)
            if not self.removed and isinstance(request, list) and isinstance(request[0], List):
                self.removed = len(answer[0].entries)
                super().execute(Batch(Delete(entry.key) for entry in answer[0].entries))
            return answer

    with S3Saver.from_conn_string(url) as first, S3Saver.from_conn_string(url) as second:
        config = put(first, 1)
        first.put_writes(config, [("a", 1)], "task")
        removing = between(second, Removing)
        second.put_writes(config, [("a", 1), ("b", 2)], "task")
    assert removing.removed == 1
    assert read(url)[1] == [("task", "a", 1), ("task", "b", 2)]


def test_a_checkpoint_that_never_gets_through_is_refused_and_not_there(
    saver: S3Saver, url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(saver, 1)
    saver.close()
    with S3Saver.from_conn_string(url) as impatient:
        monkeypatch.setattr(transport, "_pauses", lambda _: iter([0, 0]))
        fault = proxy.arm(Fault(ERRORS["503 slow down"], "before", is_put, times=1000))
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            put(impatient, 2)
    assert fault.met == 3
    proxy.pass_all()
    assert read(url) == ([1], [])


@passing
def test_a_store_that_cannot_answer_is_not_an_empty_one(saver: S3Saver, url: str, proxy: Proxy, error: Any) -> None:
    put(saver, 1)
    with S3Saver.from_conn_string(url, deadline=0.1) as impatient:
        proxy.arm(Fault(error, "after", lambda _: True, times=1000))
        with pytest.raises(StoreUnavailable):
            impatient.get_tuple(CONFIG)
        with pytest.raises(StoreUnavailable):
            list(impatient.list(None))
        with pytest.raises(StoreUnavailable):
            list(impatient.interrupts())
        with pytest.raises(StoreUnavailable):
            list(impatient.threads())


@pytest.mark.parametrize("page", [b"<!doctype html><p>Sign in", b"<html><p>Sign in</p></html>"], ids=["HTML", "XML"])
def test_a_page_of_something_else_at_the_endpoint_is_not_an_answer(
    saver: S3Saver, url: str, proxy: Proxy, page: bytes
) -> None:
    put(saver, 1)
    with S3Saver.from_conn_string(url, deadline=0.1) as impatient:
        proxy.arm(Fault(Answer(200, (("Content-Type", "text/html"),), page), "before", lambda _: True, times=1000))
        acts: list[Callable[[], object]] = [
            S3Saver.from_conn_string(url, deadline=0.1).setup,
            lambda: impatient.get_tuple(CONFIG),
            lambda: list(impatient.list(None)),
            lambda: list(impatient.interrupts()),
            lambda: list(impatient.threads()),
            lambda: put(impatient, 2),
            lambda: impatient.delete_thread("thread"),
        ]
        for act in acts:
            with pytest.raises(StoreUnavailable):
                act()
    proxy.pass_all()
    assert read(url) == ([1], [])


def test_a_404_of_something_else_is_not_a_missing_object(saver: S3Saver, url: str, proxy: Proxy) -> None:
    """A proxy answers so when it has lost its way to the store. S3 itself says which object is missing."""
    put(saver, 1)
    saver.delete_thread("thread")
    page = Answer(404, (("Content-Type", "text/plain"),), b"404 page not found")
    with S3Saver.from_conn_string(url, deadline=0) as impatient:
        for act, fails in (
            (lambda: impatient.get_tuple(CONFIG), is_asking_for_the_ledger),  # which says that the thread was deleted
            (lambda: impatient.delete_thread("thread"), is_asking_for_the_ledger),
            (lambda: list(impatient.threads()), is_asking_for_the_ledger),
        ):
            fault = proxy.arm(Fault(page, "before", fails, times=1000))
            with pytest.raises(StoreUnavailable, match="404"):
                act()
            assert fault.met >= 1
    proxy.pass_all()


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "allow what docs/s3.md lists"),
        (403, "InvalidAccessKeyId", "check the access key"),
        (403, "SignatureDoesNotMatch", "check the secret key"),
        (404, "NoSuchBucket", "create the bucket first"),
        (301, "PermanentRedirect", "name the bucket's region"),
        (501, "NotImplemented", "docs/s3.md lists what"),
    ],
)
def test_what_no_repetition_helps_against_is_told_at_once_with_the_next_step(
    saver: S3Saver, proxy: Proxy, status: int, code: str, advice: str
) -> None:
    # All but the request by which botocore itself looks for a bucket that is elsewhere.
    fault = proxy.arm(Fault(error_answer(status, code), "before", lambda request: request.method != "HEAD", times=1000))
    with pytest.raises(UnsupportedOperation, match=f"'{s3.BUCKET}'.*{code}.*{advice}"):
        saver.get_tuple(CONFIG)
    assert fault.met <= 2  # the calls of one request
    fault.met = 0
    with pytest.raises(UnsupportedOperation, match=advice):
        put(saver, 1)
    assert fault.met == 1


def test_an_error_that_nobody_knows_is_an_error_and_no_emptiness(saver: S3Saver, proxy: Proxy) -> None:
    put(saver, 1)
    proxy.arm(Fault(error_answer(418, "ImATeapot"), "before", lambda _: True, times=1000))
    with pytest.raises(CheckpointError, match="ImATeapot"):
        saver.get_tuple(CONFIG)


def test_missing_credentials_say_so(radosgw_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with (
        pytest.raises(UnsupportedOperation, match="configure them for boto3"),
        open_saver(s3.s3_url(radosgw_endpoint, prefix="no-credentials")),
    ):
        pass


def test_credentials_that_their_issuer_has_not_got_just_now_are_asked_for_again(
    radosgw_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    issuer, asked, config = tmp_path / "issuer", tmp_path / "asked", tmp_path / "config"
    url = ready(radosgw_endpoint) + "&profile_name=issued"
    names = {"AccessKeyId": "AWS_ACCESS_KEY_ID", "SecretAccessKey": "AWS_SECRET_ACCESS_KEY"}
    issued = {"Version": 1} | {field: os.environ[name] for field, name in names.items()}
    issuer.write_text(f"echo >> {asked}\ntest $(wc -l < {asked}) -gt 2 && echo '{json.dumps(issued)}'\n")
    config.write_text(f"[profile issued]\ncredential_process = sh {issuer}\n")
    for name in names.values():
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(StoreUnavailable, match="custom-process"), S3Saver.from_conn_string(url, deadline=0):
        pass
    with S3Saver.from_conn_string(url, deadline=10) as saver:
        assert saver.get_tuple(CONFIG) is None
    assert asked.read_text().count("\n") == 3


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_program_for_credentials_that_is_not_there_says_so(
    colour: str, radosgw_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url, config = ready(radosgw_endpoint) + "&profile_name=issued", tmp_path / "config"
    config.write_text(f"[profile issued]\ncredential_process = {tmp_path}/nothing\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    saver = S3Saver.from_conn_string(url)
    set_up = saver.setup if colour == "sync" else lambda: asyncio.run(saver.asetup())
    with pytest.raises(
        UnsupportedOperation, match=r"boto3 cannot get the credentials that it is configured for: .*nothing"
    ):
        set_up()


def test_credentials_in_the_endpoint_of_the_environment_are_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:secret@127.0.0.1:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", s3.REGION)
    with (
        pytest.raises(StoreUnavailable, match=r"http://…@127\.0\.0\.1:1/") as error,
        S3Saver.from_conn_string("s3://bucket", deadline=0),
    ):
        pass
    assert "secret" not in str(error.value)


def test_wrong_credentials_and_a_missing_bucket_say_so(radosgw_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(UnsupportedOperation, match="create the bucket first"),
        open_saver(s3.s3_url(radosgw_endpoint, bucket="no-such-bucket")),
    ):
        pass
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with (
        pytest.raises(UnsupportedOperation, match="check the secret key"),
        open_saver(s3.s3_url(radosgw_endpoint, prefix="wrong-key")),
    ):
        pass


def test_a_certificate_that_is_not_trusted_is_told_at_once_and_not_taken_for_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made, key = certificate(tmp_path, "server")
    context.load_cert_chain(made, key)
    with HTTPServer((HOST, 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            saver = open_saver(s3.s3_url(f"https://{HOST}:{server.server_port}", prefix="any"))
            with pytest.raises(UnsupportedOperation, match=r"certificate verify failed.*AWS_CA_BUNDLE"):
                saver.setup()
            saver.close()
            for bundle, said in ((tmp_path / "nowhere", "No such file"), (key, "no certificate")):
                monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
                saver = open_saver(s3.s3_url(f"https://{HOST}:{server.server_port}", prefix="any"))
                with pytest.raises(UnsupportedOperation, match=f"{said}.*AWS_CA_BUNDLE"):
                    saver.setup()
                saver.close()
        finally:
            server.shutdown()
            thread.join()
