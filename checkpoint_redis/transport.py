"""Scripts, run on clients of redis-py: one by one, or several in a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

from redis.client import NEVER_DECODE
from redis.cluster import PipelineCommand
from redis.exceptions import (
    AskError,  # MovedError is a subclass
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from checkpoint_base.errors import CheckpointError, StoreUnavailable, damage_of
from checkpoint_redis.connections import Clients, close_idle
from checkpoint_redis.errors import is_dropped_connection, is_from_replica, lost_thread_id, may_have_moved, translated
from checkpoint_redis.scripts import LOAD, TOUCH, Script

WAIT_MS = 5000
"""How long one attempt waits for replicas to confirm a write. The saver's deadline decides the number of attempts."""

Argument: TypeAlias = bytes | str | int


@dataclass(frozen=True, slots=True)
class Call:
    """A request: run one script, atomically. All keys are in one slot."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Argument]

    @property
    def thread_id(self) -> str | None:
        """The thread that it concerns, if it declares the key of one."""
        return next((id_ for key in self.keys if (id_ := key.partition("}:thread:")[2])), None)


@dataclass(frozen=True, slots=True)
class OneAttempt:
    """A call that may come to nothing: it is not repeated while the store is unavailable, and nobody is told."""

    call: Call


Request: TypeAlias = Call | Sequence[Call] | OneAttempt


class RedisTransport:
    """Executes a `Call`, or several in one pipeline: in order on each server, in parallel on those of a cluster.

    Args:
        clients: redis-py's clients, owned or given.
        replicas: how many replicas must have confirmed a write before it counts.
    """

    def __init__(self, clients: Clients, *, replicas: int) -> None:
        self._clients = clients
        self._replicas = replicas

    def execute(self, request: Request) -> Any:
        if isinstance(request, OneAttempt):
            with suppress(StoreUnavailable):
                self.execute(request.call)
            return None
        if isinstance(request, Call):
            return self.execute([request])[0]
        with self._translating(), self._clients.lent() as client:
            try:
                return self._carried_out(client, request)
            except (RedisError, RedisClusterException, OSError, CheckpointError):
                raise
            except BaseException:
                # A signal handler raised, for Ctrl-C perhaps. Between sending and reading, redis-py then puts the
                # connection back as it is, and the next call would take this one's answer for its own.
                close_idle(client)
                raise

    async def aexecute(self, request: Request) -> Any:
        if not self._clients.is_async:
            return await asyncio.to_thread(self.execute, request)
        if isinstance(request, OneAttempt):
            with suppress(StoreUnavailable):
                await self.aexecute(request.call)
            return None
        if isinstance(request, Call):
            return (await self.aexecute([request]))[0]
        with self._translating():
            async with self._clients.alent() as client:
                answers = await self._aanswers(client, request)
                if not self._clients.is_cluster and any(map(is_from_replica, answers)):
                    await client.connection_pool.disconnect(inuse_connections=False)
                if self._clients.is_cluster and any(map(may_have_moved, answers)):
                    client._initialize = True  # after a pipeline, redis-py would not read the slots anew
                if checks := self._verifications(request, answers):
                    _confirm_losses(checks, await self._aanswers(client, checks))
                return self._results(request, answers)

    def close(self) -> None:
        self._clients.close()

    async def aclose(self) -> None:
        await self._clients.aclose()

    def _carried_out(self, client: Any, calls: Sequence[Call]) -> Sequence[Any]:
        answers = self._answers(client, calls)
        if not self._clients.is_cluster and any(map(is_from_replica, answers)):
            close_idle(client)
        if checks := self._verifications(calls, answers):
            _confirm_losses(checks, self._answers(client, checks))
        return self._results(calls, answers)

    def _answers(self, client: Any, calls: Sequence[Call]) -> list[Any]:
        """Return the answers to calls, errors among them."""
        if len(calls) == 1 and not self._must_wait(calls[0]):
            return [self._answer(client, calls[0])]
        answers = self._executed(client, calls)
        return self._executed(client, calls, known=False) if _lacks_script(answers) else answers

    async def _aanswers(self, client: Any, calls: Sequence[Call]) -> list[Any]:
        if len(calls) == 1 and not self._must_wait(calls[0]):
            return [await self._aanswer(client, calls[0])]
        answers: list[Any] = await self._pipelined(client, calls).execute(raise_on_error=False)
        if _lacks_script(answers):
            answers = await self._pipelined(client, calls, known=False).execute(raise_on_error=False)
        return answers

    def _answer(self, client: Any, call: Call) -> Any:
        """Return the answer to a call, or the error that the server answered with."""
        try:
            try:
                return client.execute_command(*_command(call), **{NEVER_DECODE: True})
            except NoScriptError:
                return client.execute_command(*_command(call, known=False), **{NEVER_DECODE: True})
        except ResponseError as error:
            return error

    async def _aanswer(self, client: Any, call: Call) -> Any:
        try:
            try:
                return await client.execute_command(*_command(call), **{NEVER_DECODE: True})
            except NoScriptError:
                return await client.execute_command(*_command(call, known=False), **{NEVER_DECODE: True})
        except ResponseError as error:
            return error

    def _must_wait(self, call: Call) -> bool:
        return self._replicas > 0 and call.script.acknowledges

    def _pipelined(self, client: Any, calls: Sequence[Call], *, known: bool = True) -> Any:
        """Return a pipeline of calls, which carry the sources of their scripts unless those are ``known``."""
        pipeline = client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(*_command(call, known=known), **{NEVER_DECODE: True})
        if any(self._must_wait(call) for call in calls):
            pipeline.execute_command("EVAL", TOUCH.source, "1", f"{calls[0].keys[-1]}:touch")
            pipeline.execute_command("WAIT", str(self._replicas), str(WAIT_MS))
        return pipeline

    def _executed(self, client: Any, calls: Sequence[Call], *, known: bool = True) -> list[Any]:
        """Execute the pipeline that `_pipelined` describes, and return its answers, errors among them."""
        if not self._clients.is_cluster:
            answers: list[Any] = self._pipelined(client, calls, known=known).execute(raise_on_error=False)
            return answers
        stack = [
            # Without target nodes, redis-py would ask a server for the call's keys.
            PipelineCommand(
                _command(call, known=known),
                {NEVER_DECODE: True, "target_nodes": client.get_node_from_key(call.keys[0])},
                position,
            )
            for position, call in enumerate(calls)
        ]
        # `execute` would repeat the calls that a server has not answered one by one, each until its own timeout.
        answers = client.pipeline().send_cluster_commands(stack, raise_on_error=False, allow_redirections=False)
        if any(map(may_have_moved, answers)):
            client.nodes_manager.initialize()
        for at, answer in enumerate(answers):
            if isinstance(answer, (AskError, TryAgainError)):
                answers[at] = self._answer(client, calls[at])
        return answers

    def _results(self, calls: Sequence[Call], answers: Sequence[Any]) -> Sequence[Any]:
        for call, answer in zip_longest(calls, answers):
            if isinstance(answer, Exception):
                with damage_of(call.thread_id if call else None), self._translating():
                    raise answer
        if len(answers) > len(calls) and answers[-1] < self._replicas:
            raise StoreUnavailable(
                f"Redis stored the write, but only {answers[-1]} replica(s) confirmed it within "
                f"{WAIT_MS / 1000:.0f} seconds, not {self._replicas}: check the replicas, or ask for fewer"
            )
        return answers[: len(calls)]

    def _verifications(self, calls: Sequence[Call], answers: Sequence[Any]) -> Sequence[Call]:
        """Return calls that verify that threads are lost, if scripts that did not declare their keys report so.

        While its slot moves from one server of a cluster to another, a key may not be where such a script looks. A call
        that declares the key is sent to where it is, or refused for now; it fails if the thread is really lost.
        """
        if not self._clients.is_cluster:
            return ()
        lost = {
            (call.keys[0], thread_id): None
            for call, answer in zip(calls, answers, strict=False)
            if len(call.keys) == 1
            for thread_id in _reported_lost(answer)
        }
        return [
            Call(LOAD, (f"{index.removesuffix('index')}thread:{thread_id}", index), (thread_id, "", "", 0, 0))
            for index, thread_id in lost
        ]

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, RedisClusterException, OSError) as error:
            raise translated(error, of_cluster=self._clients.is_cluster) from error
        except (AttributeError, TypeError, ValueError) as error:
            if not is_dropped_connection(error):
                raise
            raise StoreUnavailable("Redis: the connection was closed under the request") from error


def _command(call: Call, *, known: bool = True) -> Sequence[Any]:
    script = call.script
    name, source = ("EVALSHA", script.digest) if known else ("EVAL", script.source)
    words = (source, len(call.keys), *call.keys, *call.arguments)
    # All as bytes, because the client may have been given another encoding, and because hiredis crashes the process if
    # the handler of a signal raises an exception while it writes a number.
    return [name, *(word if type(word) is bytes else str(word).encode() for word in words)]


def _reported_lost(answer: Any) -> Iterator[str]:
    """The threads that an answer reports as lost: by an error, or by a list that holds one and begins with the id."""
    if isinstance(answer, ResponseError) and (thread_id := lost_thread_id(answer)):
        yield thread_id
    elif isinstance(answer, list):
        if any(isinstance(each, ResponseError) and lost_thread_id(each) for each in answer):
            yield answer[0].decode()
        else:
            for each in answer:
                yield from _reported_lost(each)


def _confirm_losses(checks: Sequence[Call], answers: Sequence[Any]) -> None:
    """Raise an error unless all calls have found that a thread is lost."""
    for check, answer in zip(checks, answers, strict=True):
        if isinstance(answer, Exception):
            if not (isinstance(answer, ResponseError) and lost_thread_id(answer)):
                raise answer
        else:
            raise StoreUnavailable(f"Redis: {check.keys[0]} is moving from one server of the cluster to another")


def _lacks_script(answers: Sequence[Any]) -> bool:
    """Whether a server lacks a script: it restarted, failed over, or is a new one. All calls are then repeated."""
    return any(isinstance(answer, NoScriptError) for answer in answers)
