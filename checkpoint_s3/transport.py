"""Calls on a bucket, carried out on a client of boto3: one by one, or those of a request at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any, TypeAlias

from botocore.exceptions import ClientError

from checkpoint_base.errors import StoreUnavailable, UnsupportedOperation
from checkpoint_base.perprocess import PerProcess
from checkpoint_s3.connections import CONNECT_SECONDS
from checkpoint_s3.errors import BOTO_ERRORS, is_beyond, is_missing, is_unmet, translated

PART_BYTES = 16 * 1024 * 1024
"""A larger object is uploaded in parts of this size, at the same time."""


@dataclass(frozen=True, slots=True)
class Get:
    """Answered by `Found`, or None when there is no such object. ``first`` limits it to its first bytes."""

    key: str
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """Answered by the new object's ETag, or None when the condition did not hold.

    ``if_absent``: only if there is no such object yet. ``if_match``: only if the object has this ETag.
    """

    key: str
    body: bytes
    if_absent: bool = False
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """Copies an object within the bucket; answered by True, or False when there is nothing to copy."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes an object, with ``if_match`` only if it has this ETag; a missing one is ignored. Answered by None."""

    key: str
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class List:
    """Answered by one `Page` of the keys that begin with a prefix, behind ``after``."""

    prefix: str
    after: str = ""
    limit: int = 1000


Call: TypeAlias = Get | Put | Copy | Delete | List


class Batch(list[Call]):
    """Calls that do not need each other as one request: carried out at the same time, answered by a list.

    What has been answered is kept until all is: when the request is repeated, only the rest is carried out again.
    """

    def __init__(self, calls: Iterable[Call]) -> None:
        super().__init__(calls)
        self.answers: dict[int, Any] = {}

    def take_answers(self) -> list[Any]:
        """All answers, in the order of the calls. What comes afterwards is another request of the same calls."""
        answers, self.answers = self.answers, {}
        return [answers[at] for at in range(len(self))]


Request: TypeAlias = Call | Batch


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

    def age(self, now: int) -> float:
        """Seconds since it was written; ``now`` as a `Page` has it."""
        return now / 1_000_000 - self.modified


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing, in the order of keys. The next one begins behind ``last``, which is None when there is none.

    ``now`` is as in `Found`.
    """

    entries: Sequence[Entry]
    last: str | None
    now: int


@dataclass(slots=True)
class _Made:
    """What one process uses: connections must not be shared with a process that it was forked from."""

    client: Any = None
    making: Lock = field(default_factory=Lock)
    executor: ThreadPoolExecutor | None = None
    changing: Lock = field(default_factory=Lock)


class S3Transport:
    """Executes calls on one bucket, those of a request at the same time.

    Args:
        bucket: its name.
        make: makes a client, here and again in a forked process.
        owned: whether clients that ``make`` returns are ours to close.
        connections: how many requests a client carries out at once.
        encryption: what every object that is written is to be encrypted with, as boto3 names it.
    """

    def __init__(
        self,
        bucket: str,
        make: Callable[[], Any],
        *,
        owned: bool,
        connections: int,
        encryption: Mapping[str, str] | None = None,
    ) -> None:
        self.bucket = bucket
        self._make = make
        self._owned = owned
        self._connections = connections
        self._encryption = dict(encryption or {})
        self._is_closed = False
        self._made = PerProcess(_Made)

    def execute(self, request: Request) -> Any:
        if isinstance(request, Call):
            return self._carry_out(request)
        rest = [at for at in range(len(request)) if at not in request.answers]
        if rest:
            *others, last = rest
            futures = {at: self._submitted(request[at]) for at in others}
            try:
                # One on this thread: it would only wait.
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
        made = self._made.get()
        with made.changing:
            self._is_closed = True
            executor, made.executor = made.executor, None
        if executor is not None:
            executor.shutdown()
        with made.making:
            client, made.client = made.client, None
        if client is not None and self._owned:
            client.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def _client(self) -> Any:
        made = self._made.get()
        client = made.client
        return self._made_client(made) if client is None else client

    def _made_client(self, made: _Made) -> Any:
        # It may ask whoever issues credentials. Whoever would wait for longer has a deadline to keep.
        if not made.making.acquire(timeout=CONNECT_SECONDS):
            raise StoreUnavailable(f"bucket {self.bucket!r}: no client has been made for {CONNECT_SECONDS} seconds")
        try:
            self._check_open()
            client = made.client
            if client is None:
                client = made.client = self._make()
        except (*BOTO_ERRORS, ValueError) as error:
            raise translated(error, self.bucket) from error
        finally:
            made.making.release()
        return client

    def _submitted(self, call: Call) -> Future[Any]:
        made = self._made.get()
        with made.changing:
            self._check_open()
            if made.executor is None:
                made.executor = ThreadPoolExecutor(self._connections, thread_name_prefix="checkpoint-s3")
            return made.executor.submit(self._carry_out, call)

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnsupportedOperation(f"the saver on bucket {self.bucket!r} is closed: open another one")

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
            if is_beyond(error) and ranged:  # it is empty, which is for its reader to judge
                return self._get(client, Get(call.key))
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
            # A store answers 404 where there is nothing left to replace.
            if is_unmet(error) or (call.if_match and is_missing(error)):
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
        except BOTO_ERRORS:
            self._abort(client, place, upload)
            raise
        return _bare(answer["ETag"])

    @staticmethod
    def _abort(client: Any, place: Mapping[str, str], upload: str) -> None:
        try:
            client.abort_multipart_upload(**place, UploadId=upload)
        except BOTO_ERRORS:
            return  # its parts stay until the lifecycle rule of docs/s3.md removes them; the first error is raised

    def _copy(self, client: Any, call: Copy) -> bool:
        source = {"Bucket": self.bucket, "Key": call.source}
        try:
            client.copy_object(Bucket=self.bucket, Key=call.target, CopySource=source, **self._encryption)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        return True

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
            Entry(found["Key"], _bare(found["ETag"]), found["LastModified"].timestamp())
            for found in answer.get("Contents", ())
        ]
        last = entries[-1].key if answer["IsTruncated"] and entries else None
        return Page(entries, last, int(_now(answer) * 1_000_000))


def _bare(etag: str) -> str:
    # Some stores compare an ETag only without its quotes; those that want them accept it so, too.
    return etag.strip('"')


def _now(answer: Mapping[str, Any]) -> float:
    date: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    moment: datetime = parsedate_to_datetime(date) if date else datetime.now().astimezone()
    return moment.timestamp()
