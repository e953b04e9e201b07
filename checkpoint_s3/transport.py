"""Calls on a bucket, carried out by a boto3 client: one by one, or all those of a request at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from itertools import repeat
from threading import Lock
from typing import Any, TypeAlias

from botocore.exceptions import ClientError

from checkpoint_base.errors import StoreUnavailable
from checkpoint_base.per_process import PerProcess
from checkpoint_base.transport import Closable
from checkpoint_s3.connections import Clients
from checkpoint_s3.errors import BOTO_ERRORS, is_beyond, is_missing, is_unmet, translated

PART_BYTES = 16 * 1024 * 1024
"""An object larger than this is uploaded in parts of this size, several at the same time."""

PAGE = 1000
"""The most keys that a store lists in one answer."""

SILENT_SECONDS = 5.0
"""A call that has waited for a thread fails if for so long the store has answered none of those before it.

Otherwise, while a store says nothing, the calls of hundreds of tasks would wait for it one after the other.
"""


@dataclass(frozen=True, slots=True)
class Get:
    """Answered by `Found`, or None if there is no such object. ``first`` asks for only that many of its bytes."""

    key: str
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Stores an object. Answered by its ETag, or None if the condition did not hold.

    ``if_absent``: only if there is no such object yet. ``if_match``: only if the object has this ETag.
    """

    key: str
    body: bytes
    if_absent: bool = False
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies an object within the bucket. Answered by True, or False if the source is missing."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes an object, with ``if_match`` only if it has this ETag; a missing one is ignored. Answered by None."""

    key: str
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class List:
    """Answered by one `Page` of the keys that begin with ``prefix`` and come after ``after``."""

    prefix: str
    after: str = ""
    limit: int = PAGE


Call: TypeAlias = Get | Put | Copy | Delete | List


class Batch(list[Call]):
    """Independent calls as one request: carried out at the same time, answered by a list in their order.

    Answers are kept until all calls have one, so when the request is repeated, only the rest is carried out again.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        super().__init__(calls)
        self.answers: dict[int, Any] = {}

    def take_answers(self) -> list[Any]:
        """Return all answers, in the order of the calls, and forget them: executing it again repeats every call."""
        answers, self.answers = self.answers, {}
        return [answers[at] for at in range(len(self))]


Request: TypeAlias = Call | Batch


@dataclass(frozen=True, slots=True)
class Found:
    """An object. By the server's clock, ``age`` is the seconds since it was written, and ``now`` is in microseconds."""

    body: bytes
    etag: str
    age: float
    now: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An object as a listing has it: ``modified`` in seconds, by the server's clock, and ``size`` in bytes."""

    key: str
    etag: str
    modified: float
    size: int

    def age(self, now: int) -> float:
        """Return the seconds since it was written; ``now`` is that of its `Page`."""
        return now / 1_000_000 - self.modified


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in the order of keys.

    ``last`` is the key after which the next page begins, None on the last page. ``now`` is as in `Found`.
    """

    entries: Sequence[Entry]
    last: str | None
    now: int


@dataclass(slots=True)
class _Threads:
    """The threads of one process, and when the store has last answered one of them."""

    executor: ThreadPoolExecutor | None = None
    answered_at: float = 0.0
    changing: Lock = field(default_factory=Lock)


class S3Transport(Closable):
    """Executes calls on one bucket, those of a request at the same time.

    Args:
        bucket: its name.
        clients: where its client comes from.
        encryption: boto3's arguments for how the store encrypts objects that are written.
    """

    def __init__(self, bucket: str, clients: Clients, *, encryption: Mapping[str, str]) -> None:
        self.bucket = bucket
        self._clients = clients
        self._encryption = encryption
        self._threads = PerProcess(_Threads)

    def execute(self, request: Request) -> Any:
        if isinstance(request, Call):
            return self._carry_out(request)
        rest = [at for at in range(len(request)) if at not in request.answers]
        if rest:
            *others, last = rest
            futures = {at: self._submitted(request[at]) for at in others}
            try:
                # This thread carries one out: otherwise it would only wait.
                request.answers[last] = self._carry_out(request[last])
            finally:
                wait(futures.values())
                request.answers |= {at: future.result() for at, future in futures.items() if not future.exception()}
            for future in futures.values():
                future.result()
        return request.take_answers()

    async def aexecute(self, request: Request) -> Any:
        if isinstance(request, Call):
            return await asyncio.wrap_future(self._submitted(request))
        rest = [at for at in range(len(request)) if at not in request.answers]
        futures = [asyncio.wrap_future(self._submitted(request[at])) for at in rest]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        request.answers |= {
            at: answer for at, answer in zip(rest, answers, strict=True) if not isinstance(answer, BaseException)
        }
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return request.take_answers()

    def close(self) -> None:
        threads = self._threads.get()
        with threads.changing:
            self._is_closed = True
            executor, threads.executor = threads.executor, None
        if executor is not None:
            executor.shutdown()
        self._clients.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _client(self) -> Any:
        try:
            return self._clients.get()
        except (*BOTO_ERRORS, ValueError) as error:
            raise translated(error, self.bucket) from error

    def _submitted(self, call: Call) -> Future[Any]:
        threads = self._threads.get()
        with threads.changing:
            self._check_open()
            if threads.executor is None:
                threads.executor = ThreadPoolExecutor(self._clients.connections, thread_name_prefix="checkpoint-s3")
            # In the caller's context, so that a trace of the caller has what is requested for it.
            return threads.executor.submit(copy_context().run, self._in_turn, call, threads, time.monotonic())

    def _in_turn(self, call: Call, threads: _Threads, came_at: float) -> Any:
        silent = time.monotonic() - max(came_at, threads.answered_at)
        if silent > SILENT_SECONDS:
            raise StoreUnavailable(
                f"bucket {self.bucket!r}: the store has answered no request for {silent:.0f} seconds"
            )
        answer = self._carry_out(call)
        threads.answered_at = time.monotonic()
        return answer

    def _carry_out(self, call: Call) -> Any:
        client = self._client()
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
        except BOTO_ERRORS as error:
            raise translated(error, self.bucket) from error

    def _get(self, client: Any, call: Get) -> Found | None:
        ranged = {} if call.first is None else {"Range": f"bytes=0-{call.first - 1}"}
        try:
            answer = client.get_object(Bucket=self.bucket, Key=call.key, **ranged)
        except ClientError as error:
            if is_missing(error):
                return None
            if is_beyond(error) and ranged:  # the object is empty: its reader decides what that means
                return self._get(client, Get(call.key))
            raise
        stream = answer["Body"]  # as a context manager, it would return urllib3's stream, which raises other errors
        try:
            body = stream.read()
        finally:
            stream.close()
        etag, now = self._etag(answer), _now(answer)
        return Found(body, etag, now - self._part(answer, "LastModified").timestamp(), int(now * 1_000_000))

    def _put(self, client: Any, call: Put) -> str | None:
        condition = {}
        if call.if_absent:
            condition["IfNoneMatch"] = "*"
        if call.if_match is not None:
            condition["IfMatch"] = call.if_match
        if len(call.body) > PART_BYTES and not condition:
            return self._put_in_parts(client, call)
        try:
            answer = client.put_object(
                Bucket=self.bucket, Key=call.key, Body=call.body, **condition, **self._encryption
            )
        except ClientError as error:
            # A store answers 404 to `If-Match` if the object is gone.
            if is_unmet(error) or (call.if_match and is_missing(error)):
                return None
            raise
        return self._etag(answer)

    def _put_in_parts(self, client: Any, call: Put) -> str:
        place = {"Bucket": self.bucket, "Key": call.key}
        upload = self._part(client.create_multipart_upload(**place, **self._encryption), "UploadId")
        numbers = range(1, -(-len(call.body) // PART_BYTES) + 1)

        def sent(number: int) -> dict[str, Any]:
            part = call.body[(number - 1) * PART_BYTES : number * PART_BYTES]
            answer = client.upload_part(**place, UploadId=upload, PartNumber=number, Body=part)
            return {"PartNumber": number, "ETag": self._part(answer, "ETag")}

        try:
            # Not the transport's own threads: all of them may be waiting for uploads like this one.
            with ThreadPoolExecutor(4, thread_name_prefix="checkpoint-s3-parts") as executor:
                contexts = [copy_context() for _ in numbers]
                parts = list(executor.map(Context.run, contexts, repeat(sent), numbers))
            answer = client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:  # whatever it was: parts that are left are paid for
            self._abort(client, place, upload)
            raise
        return self._etag(answer)

    @staticmethod
    def _abort(client: Any, place: Mapping[str, str], upload: str) -> None:
        try:
            client.abort_multipart_upload(**place, UploadId=upload)
        except BOTO_ERRORS:
            return  # the lifecycle rule of docs/s3.md removes its parts; the caller raises the first error

    def _copy(self, client: Any, call: Copy) -> bool:
        source = {"Bucket": self.bucket, "Key": call.source}
        try:
            answer = client.copy_object(Bucket=self.bucket, Key=call.target, CopySource=source, **self._encryption)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        return bool(self._part(answer, "CopyObjectResult"))

    def _delete(self, client: Any, call: Delete) -> None:
        condition = {} if call.if_match is None else {"IfMatch": call.if_match}
        try:
            client.delete_object(Bucket=self.bucket, Key=call.key, **condition)
        except ClientError as error:
            if not (is_unmet(error) or is_missing(error)):
                raise

    def _list(self, client: Any, call: List) -> Page:
        options: dict[str, Any] = {"Prefix": call.prefix, "MaxKeys": call.limit}
        if call.after:
            options["StartAfter"] = call.after
        answer = client.list_objects_v2(Bucket=self.bucket, **options)
        entries = [
            Entry(found["Key"], self._etag(found), found["LastModified"].timestamp(), found["Size"])
            for found in answer.get("Contents", ())
        ]
        is_last = not self._part(answer, "IsTruncated")
        if not entries and not is_last:  # without a key there is nothing to go on behind
            raise StoreUnavailable(f"bucket {self.bucket!r}: a listing was cut off before its first key")
        return Page(entries, None if is_last else entries[-1].key, int(_now(answer) * 1_000_000))

    def _etag(self, answer: Mapping[str, Any]) -> str:
        # Some stores match an ETag only without its quotes; the others accept it without them, too.
        etag: str = self._part(answer, "ETag")
        return etag.strip('"')

    def _part(self, answer: Mapping[str, Any], name: str) -> Any:
        """A part that each answer of this kind has if it is a store that answers, and not the page of a proxy, say."""
        if name not in answer:
            raise StoreUnavailable(
                f"bucket {self.bucket!r}: an answer has no {name}: check that the endpoint is that of an object store"
            )
        return answer[name]


def _now(answer: Mapping[str, Any]) -> float:
    date: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    moment: datetime = parsedate_to_datetime(date) if date else datetime.now().astimezone()
    return moment.timestamp()
