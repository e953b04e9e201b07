"""Runs scripts on Redis, in both colours, and turns its errors into ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from redis.client import NEVER_DECODE
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,  # redis-py's own, which is no OSError
    MaxConnectionsError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from checkpoint_base.errors import CheckpointError, CorruptCheckpoint, StoreUnavailable, UnsupportedOperation
from checkpoint_redis.clients import Clients
from checkpoint_redis.scripts import Call

WAIT_MS = 5000
"""How long one attempt waits for replicas to confirm a write. The saver's deadline decides how many there are."""

Request: TypeAlias = Call | Sequence[Call]

_OF_STREAMS = ("writelines", "drain", "read", "readline", "readexactly", "can_read")

# A script that fails passes on the error of its command: at the beginning, or (before Redis 7) somewhere inside.
_CODE = re.compile(r"(?:^|[ -])(LOSTTHREAD|LOSTINDEX|DAMAGEDTHREAD|[A-Z]{4,}|OOM)\b")
# fmt: off
_PASSING = frozenset((
    "ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOREPLICAS", "OOM", "READONLY",
    "TRYAGAIN", "UNBLOCKED",
))
# fmt: on
_FORBIDDEN = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))
# A script's command that is refused has a code only sometimes.
_FORBIDDEN_INSIDE = re.compile("The user executing the script can't|ACL failure in script")


class RedisTransport:
    """Executes a `Call`, or several in one pipeline: in order on each server, and in a cluster on all at once.

    Args:
        clients: redis-py's clients, owned or given.
        replicas: how many replicas must have confirmed a write before it counts.
    """

    def __init__(self, clients: Clients, *, replicas: int = 0) -> None:
        self._clients = clients
        self._replicas = replicas
        self._is_closed = False

    def execute(self, request: Request) -> Any:
        with self._translating():
            client = self._clients.blocking()
            calls = [request] if isinstance(request, Call) else request
            if len(calls) == 1 and not self._must_wait(calls[0]):
                call = calls[0]
                try:
                    answers = [client.execute_command(*_command(call), **{NEVER_DECODE: True})]
                except NoScriptError:
                    answers = [client.execute_command(*_command(call, known=False), **{NEVER_DECODE: True})]
            else:
                answers = self._pipelined(client, calls).execute(raise_on_error=False)
                if unknown := _unknown(answers):
                    again = self._pipelined(client, calls, only=unknown).execute(raise_on_error=False)
                    answers = _mended(answers, unknown, again)
            return self._results(request, answers)

    async def aexecute(self, request: Request) -> Any:
        if not self._clients.is_async:
            return await asyncio.to_thread(self.execute, request)
        with self._translating():
            async with self._clients.asynchronous() as client:
                calls = [request] if isinstance(request, Call) else request
                if len(calls) == 1 and not self._must_wait(calls[0]):
                    call = calls[0]
                    try:
                        answers = [await client.execute_command(*_command(call), **{NEVER_DECODE: True})]
                    except NoScriptError:
                        answers = [await client.execute_command(*_command(call, known=False), **{NEVER_DECODE: True})]
                else:
                    answers = await self._pipelined(client, calls).execute(raise_on_error=False)
                    if unknown := _unknown(answers):
                        again = await self._pipelined(client, calls, only=unknown).execute(raise_on_error=False)
                        answers = _mended(answers, unknown, again)
                return self._results(request, answers)

    def close(self) -> None:
        self._is_closed = True
        self._clients.close()

    async def aclose(self) -> None:
        self._is_closed = True
        await self._clients.aclose()

    def _must_wait(self, call: Call) -> bool:
        return self._replicas > 0 and call.script.writes

    def _pipelined(self, client: Any, calls: Sequence[Call], only: Sequence[int] | None = None) -> Any:
        """A pipeline of calls, or of ``only`` some with their source, because the server did not know the scripts."""
        pipeline = client.pipeline(transaction=False)
        for at in range(len(calls)) if only is None else only:
            pipeline.execute_command(*_command(calls[at], known=only is None), **{NEVER_DECODE: True})
        if any(self._must_wait(call) for call in calls):
            pipeline.execute_command("WAIT", self._replicas, WAIT_MS)
        return pipeline

    def _results(self, request: Request, answers: Sequence[Any]) -> Any:
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if isinstance(request, Call):
            calls: Sequence[Call] = [request]
        else:
            calls = request
        if len(answers) > len(calls) and answers[-1] < self._replicas:
            raise StoreUnavailable(
                f"Redis stored it, but {answers[-1]} replica(s) confirmed that within {WAIT_MS / 1000:.0f} seconds, "
                f"not {self._replicas}: check the replicas, or ask for fewer"
            )
        return answers[0] if isinstance(request, Call) else answers[: len(calls)]

    @contextmanager
    def _translating(self) -> Iterator[None]:
        if self._is_closed:
            raise UnsupportedOperation("the saver on Redis is closed: open another one")
        try:
            yield
        except (RedisError, RedisClusterException, OSError) as error:
            raise translated(error) from error
        except AttributeError as error:
            # redis-py's async cluster client may drop a connection that another call is about to write to.
            if error.obj is not None or error.name not in _OF_STREAMS:
                raise
            raise StoreUnavailable("Redis: the connection was closed before the request was sent") from error


def translated(error: Exception) -> CheckpointError:
    """The error of ours that says what a caller can do about one of redis-py's."""
    said = str(error)
    codes = set(_CODE.findall(said)) if isinstance(error, ResponseError) else set()
    if "LOSTTHREAD" in codes or "LOSTINDEX" in codes:
        what = said.partition("LOST")[2].partition(" ")[2]
        what = f"thread {what!r}" if "LOSTTHREAD" in codes else f"the index {what!r}"
        return CorruptCheckpoint(
            f"{what} is gone from Redis although nobody removed it and it has not expired: it was probably evicted. "
            "Set maxmemory-policy to noeviction; restore it from a backup, or delete the thread"
        )
    if "DAMAGEDTHREAD" in codes:
        thread = said.partition("DAMAGEDTHREAD ")[2]
        return CorruptCheckpoint(
            f"thread {thread!r} and its index no longer agree, so one of them was damaged: "
            "restore it from a backup, or delete the thread"
        )
    refused = isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)) or codes & _FORBIDDEN
    if refused or _FORBIDDEN_INSIDE.search(said):
        return UnsupportedOperation(
            f"Redis refuses this user or password: {said}. Check the URL, and the user's permissions (docs/redis.md)"
        )
    if isinstance(error, OutOfMemoryError) or "OOM" in codes:
        return StoreUnavailable(
            f"Redis has reached maxmemory and stores nothing more: raise it, or delete threads ({said})"
        )
    if "WRONGTYPE" in codes:
        return CorruptCheckpoint(f"a key of this saver holds something else: {said}. Choose another prefix")
    passing = (
        ConnectionError,
        RedisTimeoutError,
        ClusterDownError,
        TryAgainError,
        ReadOnlyError,
        MaxConnectionsError,
        RedisClusterException,
        OSError,
    )
    if isinstance(error, passing) or codes & _PASSING:
        return StoreUnavailable(f"Redis: {said or type(error).__name__}")
    # Last: a server that lets nobody write says so from within a script, too.
    if isinstance(error, ResponseError) and "user_script:" in said:
        return CorruptCheckpoint(
            f"Redis cannot read what is stored: {said}. Restore it from a backup, or delete the thread"
        )
    return CheckpointError(f"Redis: {said}")


def _command(call: Call, *, known: bool = True) -> Sequence[Any]:
    script = call.script
    head = ("EVALSHA", script.digest) if known else ("EVAL", script.source)
    return (*head, len(call.keys), *call.keys, *call.arguments)


def _unknown(answers: Sequence[Any]) -> list[int]:
    """Which calls were not carried out, because the server has restarted or failed over, or is a new one."""
    return [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]


def _mended(answers: list[Any], unknown: Sequence[int], again: Sequence[Any]) -> list[Any]:
    for at, answer in zip(unknown, again, strict=False):
        answers[at] = answer
    if len(again) > len(unknown):  # the confirmations of replicas, which now count
        answers[-1] = again[-1]
    return answers
