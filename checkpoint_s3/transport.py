"""Clients of S3, and calls on them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, TypeAlias

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from botocore.parsers import ResponseParserError
from botocore.utils import parse_timestamp
from urllib3.exceptions import HTTPError

from checkpoint_base.errors import CheckpointError, CorruptCheckpoint, StoreUnavailable, UnsupportedOperation

CONNECTIONS = 32
"""How many requests a client of our own carries out at once."""

CONNECT_SECONDS, READ_SECONDS = 5, 20
"""How long one attempt waits. With the lease they stay below the grace period of removals (`docs/s3.md`)."""

PART_BYTES = 16 * 1024 * 1024
"""A larger object is uploaded in parts of this size, at the same time."""

_GONE = frozenset(("NoSuchKey", "404", "NotFound"))
_LATER = frozenset(
    (
        "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "RequestTimeout",
        "RequestTimeTooSkewed", "InternalError", "ServiceUnavailable", "BadDigest", "IncompleteBody", "NoSuchUpload",
        "ConditionalRequestConflict", "OperationAborted", "ExpiredToken", "QuotaExceeded",
    )
)  # fmt: skip
_BROKEN = (
    HTTPClientError, BotoConnectionError, IncompleteReadError,
    # botocore lets these through when an answer without a stream breaks off, and when something else answers.
    HTTPError, ResponseParserError,
)  # fmt: skip
"""No connection, a timeout, or an answer that did not arrive whole."""

_ADVICE = {
    "NoSuchBucket": "create the bucket first",
    "AccessDenied": "allow what docs/s3.md lists to these credentials",
    "403": "allow what docs/s3.md lists to these credentials",
    "AllAccessDisabled": "allow what docs/s3.md lists to these credentials",
    "InvalidAccessKeyId": "check the access key",
    "SignatureDoesNotMatch": "check the secret key, and the region",
    "InvalidToken": "check the session token",
    "PermanentRedirect": "name the bucket's region: region_name",
    "AuthorizationHeaderMalformed": "name the bucket's region: region_name",
    "IllegalLocationConstraintException": "name the bucket's region: region_name",
    "NotImplemented": "this store lacks something that is needed; docs/s3.md lists what",
}


@dataclass(frozen=True, slots=True)
class Get:
    """Answered by `Found`, or None when there is no such object. ``first`` asks for so many bytes of it only."""

    key: str
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Answered by the new object's ETag, or None when the condition did not hold.

    ``only_new`` refuses to replace an object, ``replacing`` to replace another than the one with this ETag.
    """

    key: str
    body: bytes
    only_new: bool = False
    replacing: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies an object within the bucket; answered by True, or False when there is nothing to copy."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes an object, if it is still the one with ``etag``; that there is none is no error. Answered by None."""

    key: str
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class List:
    """Answered by one `Page` of the keys with a prefix, behind ``after``; what follows a slash makes one folder."""

    prefix: str
    after: str = ""
    limit: int = 1000
    folders: bool = False


Call: TypeAlias = Get | Put | Copy | Delete | List
Request: TypeAlias = Call | Sequence[Call]
"""Calls that do not need each other are one request: they are carried out at the same time."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object; ``age`` is the seconds since it was written, ``now`` microseconds, both by the server's clock."""

    body: bytes
    etag: str
    age: float
    now: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing has it. ``modified`` is in seconds, by the server's clock."""

    key: str
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class Page:
    """``last`` is where the next page continues, None when this is the last one. ``now`` is as in `Found`."""

    entries: Sequence[Entry]
    folders: Sequence[str]
    last: str | None
    now: int


class S3Transport:
    """Executes calls on one bucket, those of a request at the same time.

    Args:
        bucket: its name.
        make: makes a client, here and again in a forked process.
        owned: whether clients that ``make`` returns are ours to close.
        encryption: what every object that is written is to be encrypted with, as boto3 names it.
    """

    def __init__(
        self, bucket: str, make: Callable[[], Any], *, owned: bool, encryption: Mapping[str, str] | None = None
    ) -> None:
        self.bucket = bucket
        self._make = make
        self._owned = owned
        self._encryption = dict(encryption or {})
        self._is_closed = False
        self._changing: Lock
        self._made: Any
        self._executor: ThreadPoolExecutor | None
        self._begin_in_this_process()

    def execute(self, request: Request) -> Any:
        if isinstance(request, (Get, Put, Copy, Delete, List)):
            return self._carry_out(self._client(), request)
        if not request:
            return []
        *others, last = request
        futures = [self._submitted(call) for call in others]
        try:
            # One on this thread: it would only wait.
            answer = self._carry_out(self._client(), last)
        finally:
            wait(futures)
        return [*(future.result() for future in futures), answer]

    async def aexecute(self, request: Request) -> Any:
        if isinstance(request, (Get, Put, Copy, Delete, List)):
            return await asyncio.wrap_future(self._submitted(request))
        futures = [asyncio.wrap_future(self._submitted(call)) for call in request]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    def close(self) -> None:
        self._is_closed = True
        with self._changing:
            executor, self._executor = self._executor, None
            client, self._made = self._made, None
        if executor is not None:
            executor.shutdown()
        if client is not None and self._owned:
            client.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _begin_in_this_process(self) -> None:
        self._process = os.getpid()
        self._made = None
        self._executor = None
        self._changing = Lock()

    def _client(self) -> Any:
        if os.getpid() != self._process:  # connections must not be shared with the process that forked this one
            self._of_parent = (self._made, self._executor)
            self._begin_in_this_process()
        if self._is_closed:
            raise UnsupportedOperation(f"the saver on bucket {self.bucket!r} is closed: open another one")
        if self._made is None:
            with self._changing:
                if self._made is None:
                    try:
                        self._made = self._make()
                    except (BotoCoreError, ValueError) as error:
                        raise self._translated(error) from error
        return self._made

    def _submitted(self, call: Call) -> Future[Any]:
        client = self._client()
        with self._changing:
            if self._executor is None:
                size = client.meta.config.max_pool_connections
                self._executor = ThreadPoolExecutor(size, thread_name_prefix="checkpoint-s3")
            executor = self._executor
        try:
            return executor.submit(self._carry_out, client, call)
        except RuntimeError as error:  # closed since we looked
            raise UnsupportedOperation(f"the saver on bucket {self.bucket!r} is closed: open another one") from error

    def _carry_out(self, client: Any, call: Call) -> Any:
        try:
            match call:
                case Get():
                    return self._get(client, call)
                case Put():
                    return self._put(client, call)
                case Copy():
                    return self._copy(client, call)
                case Delete():
                    return self._delete(client, call)
                case List():
                    return self._list(client, call)
        except (BotoCoreError, ClientError, ResponseParserError, HTTPError) as error:
            raise self._translated(error) from error

    def _get(self, client: Any, call: Get) -> Found | None:
        ranged = {} if call.first is None else {"Range": f"bytes=0-{call.first - 1}"}
        try:
            answer = client.get_object(Bucket=self.bucket, Key=call.key, **ranged)
        except ClientError as error:
            if _code(error) in _GONE:
                return None
            raise
        stream = answer["Body"]  # as a context manager it would hand out urllib3's, which raises errors of its own
        try:
            body = stream.read()
        finally:
            stream.close()
        now = _now(answer)
        return Found(body, _bare(answer["ETag"]), now - answer["LastModified"].timestamp(), int(now * 1_000_000))

    def _put(self, client: Any, call: Put) -> str | None:
        condition = {}
        if call.only_new:
            condition["IfNoneMatch"] = "*"
        if call.replacing is not None:
            condition["IfMatch"] = call.replacing
        if len(call.body) > PART_BYTES and not condition:
            return self._put_in_parts(client, call)
        try:
            answer = client.put_object(
                Bucket=self.bucket, Key=call.key, Body=call.body, **condition, **self._encryption
            )
        except ClientError as error:
            # A store answers 404 where there is nothing left to replace.
            if _code(error) in ("PreconditionFailed", "412") or (call.replacing and _code(error) in _GONE):
                return None
            raise
        return _bare(answer["ETag"])

    def _put_in_parts(self, client: Any, call: Put) -> str:
        place = {"Bucket": self.bucket, "Key": call.key}
        upload = client.create_multipart_upload(**place, **self._encryption)["UploadId"]
        numbers = range(1, -(-len(call.body) // PART_BYTES) + 1)

        def sent(number: int) -> dict[str, Any]:
            part = call.body[(number - 1) * PART_BYTES : number * PART_BYTES]
            answer = client.upload_part(**place, UploadId=upload, PartNumber=number, Body=part)
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            # Threads of its own: those of the transport may all be waiting for uploads like this one.
            with ThreadPoolExecutor(4, thread_name_prefix="checkpoint-s3-parts") as executor:
                parts = list(executor.map(sent, numbers))
            answer = client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
        except (BotoCoreError, ClientError):
            self._abort(client, place, upload)
            raise
        return _bare(answer["ETag"])

    @staticmethod
    def _abort(client: Any, place: Mapping[str, str], upload: str) -> None:
        try:
            client.abort_multipart_upload(**place, UploadId=upload)
        except (BotoCoreError, ClientError):
            return  # its parts stay until the lifecycle rule of docs/s3.md removes them; the first error is raised

    def _copy(self, client: Any, call: Copy) -> bool:
        source = {"Bucket": self.bucket, "Key": call.source}
        try:
            client.copy_object(Bucket=self.bucket, Key=call.target, CopySource=source, **self._encryption)
        except ClientError as error:
            if _code(error) in _GONE:
                return False
            raise
        return True

    def _delete(self, client: Any, call: Delete) -> None:
        condition = {} if call.etag is None else {"IfMatch": call.etag}
        try:
            client.delete_object(Bucket=self.bucket, Key=call.key, **condition)
        except ClientError as error:
            if _code(error) not in ("PreconditionFailed", "412", *_GONE):
                raise

    def _list(self, client: Any, call: List) -> Page:
        options: dict[str, Any] = {"Prefix": call.prefix, "MaxKeys": call.limit}
        if call.after:
            options["StartAfter"] = call.after
        if call.folders:
            options["Delimiter"] = "/"
        answer = client.list_objects_v2(Bucket=self.bucket, **options)
        entries = [
            Entry(found["Key"], _bare(found["ETag"]), found["LastModified"].timestamp())
            for found in answer.get("Contents", ())
        ]
        folders = [found["Prefix"] for found in answer.get("CommonPrefixes", ())]
        last = max([*(entry.key for entry in entries), *folders], default=None) if answer["IsTruncated"] else None
        if last is not None and last in folders:
            last += "~~"  # behind everything in the folder
        return Page(entries, folders, last, int(_now(answer) * 1_000_000))

    def _translated(self, error: Exception) -> CheckpointError:
        where = f"bucket {self.bucket!r}"
        if isinstance(error, ClientError):
            code = _code(error)
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            said = f"{where}: {error.operation_name}: {code}: {error.response.get('Error', {}).get('Message', '')}"
            if code == "InvalidRange":  # the beginning of an object that is empty; none is written so
                return CorruptCheckpoint(f"{where}: an object is empty. Restore it from a backup, or delete its thread")
            if code in _ADVICE and not (status >= 500 and code != "NotImplemented"):
                return UnsupportedOperation(f"{said.rstrip('.: ')}; {_ADVICE[code]}")
            if code in _LATER or status >= 500 or status in (409, 429):
                return StoreUnavailable(said)
            return CheckpointError(said)
        if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
            return UnsupportedOperation(
                f"{where}: {error}; configure them for boto3, for example in AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        if isinstance(error, NoRegionError):
            return UnsupportedOperation(f"{where}: {error} Name one: region_name, or AWS_DEFAULT_REGION")
        if isinstance(error, _BROKEN):
            return StoreUnavailable(f"{where}: {error}")
        if isinstance(error, ValueError):
            return UnsupportedOperation(f"{where}: {error}")
        return CheckpointError(f"{where}: {error}")


def client_config() -> Config:
    """The settings of clients of our own. They do not retry: the saver does, and counts towards its deadline."""
    return Config(
        max_pool_connections=CONNECTIONS,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        user_agent_extra="checkpoint-backends",
        # Objects carry checksums of their own, and older stores know no others. Together a third of a call's time.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        parameter_validation=False,
    )


# The description of S3 that clients are made of: reading it takes longer than all the rest.
_LOADER = botocore.session.Session().get_component("data_loader")


def make_client(session: Any = None, *, profile_name: str | None = None, **options: Any) -> Any:
    """Make a client as boto3 finds credentials and region, of a session of its own: the default is not to be shared.

    A ``session`` that is given is used as it is.
    """
    if session is None:
        own = botocore.session.Session(profile=profile_name)
        own.register_component("data_loader", _LOADER)
        own.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
        session = boto3.session.Session(botocore_session=own)
    return session.client("s3", config=client_config(), **options)


def _moment(text: Any) -> Any:
    """A time in an answer. botocore takes 0.2 ms to guess the form of each, and a listing has hundreds."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)
    return found if found.tzinfo else parse_timestamp(text)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _bare(etag: str) -> str:
    # Some stores compare an ETag only without its quotes; those that want them accept it so, too.
    return etag.strip('"')


def _now(answer: Mapping[str, Any]) -> float:
    date: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    moment: datetime = parsedate_to_datetime(date) if date else datetime.now().astimezone()
    return moment.timestamp()
