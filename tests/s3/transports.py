"""Transports between a saver and its store: they count, crash in the middle of an operation, or lose answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from checkpoint_base.transport import Retrying, Transport
from checkpoint_s3 import S3Saver
from checkpoint_s3.transport import Batch, Call, Copy, Delete, List, Put


class Between:
    """Passes on what it is asked for."""

    def __init__(self, inner: Transport) -> None:
        self.inner = inner

    def execute(self, request: Any) -> Any:
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        return await self.inner.aexecute(request)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


class Crash(Exception):
    """The process is gone."""


class Crashing(Between):
    """Carries calls out one by one, those of a request in an order of chance, and ends after so many changes.

    Reading changes nothing, so ending before or after a read is ending after the change before it.
    """

    def __init__(self, inner: Transport, changes: float, seed: int) -> None:
        super().__init__(inner)
        self.done = 0
        self._most = changes
        self._chance = random.Random(seed)

    def execute(self, request: Any) -> Any:
        if isinstance(request, Call):
            return self._one(request)
        order = list(range(len(request)))
        self._chance.shuffle(order)
        answers = {at: self._one(request[at]) for at in order}
        return [answers[at] for at in range(len(request))]

    async def aexecute(self, request: Any) -> Any:
        return self.execute(request)

    def _one(self, call: Call) -> Any:
        if self.done >= self._most:
            raise Crash
        answer = self.inner.execute(call)
        if isinstance(call, (Put, Copy, Delete)):
            self.done += 1
        return answer


class Repeating(Between):
    """Carries every request out twice, and tells of the second time only: as when all first answers get lost."""

    def execute(self, request: Any) -> Any:
        self.inner.execute(request)
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        await self.inner.aexecute(request)
        return await self.inner.aexecute(request)


class Beside(Between):
    """Carries calls out one by one, those of one kind first, and lets others act before and after each."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.first: type[Call] = List
        self.before: Callable[[Call], object] = lambda call: None
        self.after: Callable[[Call], object] = lambda call: None

    def execute(self, request: Any) -> Any:
        if isinstance(request, Call):
            return self._one(request)
        order = sorted(range(len(request)), key=lambda at: not isinstance(request[at], self.first))
        answers = {at: self._one(request[at]) for at in order}
        return [answers[at] for at in range(len(request))]

    def _one(self, call: Call) -> Any:
        self.before(call)
        answer = self.inner.execute(call)
        self.after(call)
        return answer


def once(matches: Callable[[Call], bool], act: Callable[[], object]) -> Callable[[Call], object]:
    """A hook that acts at the first call that matches."""
    acted = False

    def hook(call: Call) -> None:
        nonlocal acted
        if not acted and matches(call):
            acted = True
            act()

    return hook


@contextmanager
def dying(saver: S3Saver, matches: Callable[[Call], bool]) -> Iterator[None]:
    """The process of a saver ends in this context, before a call that matches. Then another one goes on as the same."""

    def die(call: Call) -> None:
        if matches(call):
            raise Crash

    beside: Beside = between(saver, Beside)
    beside.before = die
    with pytest.raises(Crash):
        yield
    beside.before = lambda call: None


class Counting(Between):
    """Counts calls by their kind, and the steps that they take: ``steps`` holds the calls of each request."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.steps: list[list[Call]] = []

    def execute(self, request: Any) -> Any:
        self._count(request)
        return self.inner.execute(request)

    async def aexecute(self, request: Any) -> Any:
        self._count(request)
        return await self.inner.aexecute(request)

    def _count(self, request: Any) -> None:
        calls = [request] if isinstance(request, Call) else list(request)
        if calls:
            self.steps.append(calls)

    @property
    def calls(self) -> list[Call]:
        return [call for step in self.steps for call in step]

    @property
    def kinds(self) -> Counter[str]:
        return Counter(type(call).__name__ for call in self.calls)

    def forget(self) -> None:
        self.steps.clear()


class Short(Between):
    """Lists at most 20 names at once, so that a thread need not have thousands of objects to be long."""

    def execute(self, request: Any) -> Any:
        if isinstance(request, List):
            request = replace(request, limit=min(request.limit, 20))
        elif isinstance(request, Batch):
            short = [replace(call, limit=min(call.limit, 20)) if isinstance(call, List) else call for call in request]
            request = Batch(short)
        return self.inner.execute(request)


def between(saver: S3Saver, make: Callable[[Transport], Any]) -> Any:
    """Put a transport between a saver and its store."""
    transport = make(saver.store.transport)
    saver.transport = Retrying(transport, deadline=5)
    return transport


def counted(saver: S3Saver) -> Counting:
    counting: Counting = between(saver, Counting)
    return counting


def counted_in_short(saver: S3Saver) -> Counting:
    """Count, and let listings be short."""
    counting = Counting(Short(saver.store.transport))
    saver.transport = Retrying(counting, deadline=5)
    return counting


# Calls, for hooks


def lists(folder: str) -> Any:
    """Matches the listings of a folder below the prefix."""
    return lambda call: isinstance(call, List) and f"/{folder}" in call.prefix


def deletes(folder: str) -> Any:
    """Matches the deletions in a folder below the prefix."""
    return lambda call: isinstance(call, Delete) and f"/{folder}" in call.key


def marks_question(call: Call) -> bool:
    return isinstance(call, Put) and "/x" in call.key


def puts_ledger(call: Call) -> bool:
    return isinstance(call, Put) and "/l/" in call.key


def stores_writes(call: Call) -> bool:
    return isinstance(call, Put) and "/t/" in call.key and call.key.rpartition("/")[2].startswith("w")
