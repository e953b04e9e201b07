"""Operations without I/O, and the transports that carry them out.

An operation is a generator that yields requests and returns a result. It is written once; `run` drives it on the
calling thread, `arun` on the event loop. A yield is a round trip, so counting yields is counting the cost.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from checkpoint_base.errors import CorruptCheckpoint, StoreUnavailable, UnsupportedOperation, damage_of
from checkpoint_base.tracing import note

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""How many seconds lie between attempts, at first and at last."""

Operation: TypeAlias = Generator[Any, Any, T]
"""Yields requests that its store's transport understands, is sent each one's response, and returns its result."""


def about(thread_id: str | None, operation: Operation[T]) -> Operation[T]:
    """Run an operation on one thread: `CorruptCheckpoint` raised in it names that thread."""
    with damage_of(thread_id):
        return (yield from operation)


def for_each(items: Iterable[T], act: Callable[[T], Operation[None]]) -> Operation[None]:
    """Act on each item in turn. If one is damaged, the others still get theirs; the first error is raised last."""
    damage: CorruptCheckpoint | None = None
    for item in items:
        try:
            yield from act(item)
        except CorruptCheckpoint as error:
            damage = damage or error
    if damage is not None:
        raise damage


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Split items, in order, into groups of ``size``; the last one may be smaller."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


class Executor(Protocol):
    """Executes requests. A call executes one; any number of threads and event loops may call at the same time.

    Both methods raise `StoreUnavailable` if the store does not answer in time, whether or not the request was applied.
    Either way they leave no connection in a state that the next request could see.
    """

    def execute(self, request: Any) -> Any:
        """Carry out ``request`` on the calling thread, never waiting for an event loop."""

    async def aexecute(self, request: Any) -> Any:
        """Carry out ``request`` without blocking the running event loop."""


class Transport(Executor, Protocol):
    """An executor with connections to close: after that, every further request raises `UnsupportedOperation`."""

    def close(self) -> None:
        """Release what this transport opened, and nothing that it was given. Closing twice is allowed."""

    async def aclose(self) -> None:
        """`close`, without blocking the running event loop."""


class Closable:
    """Something that raises `UnsupportedOperation` when it is used after it was closed."""

    _is_closed = False

    def close(self) -> None:
        """Close what was opened here, and nothing that was given."""
        self._is_closed = True

    async def aclose(self) -> None:
        """`close`, without blocking the running event loop."""
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnsupportedOperation("the saver is closed: open another one")


def run(operation: Operation[T], executor: Executor) -> T:
    """Drive ``operation`` to its result on the calling thread."""
    try:
        request = next(operation)
        while True:
            try:
                response = executor.execute(request)
            except BaseException as error:  # noqa: BLE001  # handed to the operation, which raises it again
                request = operation.throw(error)
            else:
                request = operation.send(response)
    except StopIteration as done:
        result: T = done.value
        return result


async def arun(operation: Operation[T], executor: Executor) -> T:
    """Drive ``operation`` to its result on the running event loop."""
    try:
        request = next(operation)
        while True:
            try:
                response = await executor.aexecute(request)
            except BaseException as error:  # noqa: BLE001  # handed to the operation, which raises it again
                request = operation.throw(error)
            else:
                request = operation.send(response)
    except StopIteration as done:
        result: T = done.value
        return result


@dataclass(frozen=True, slots=True)
class Retrying:
    """A transport that repeats a request while its store is unavailable.

    Every store operation is idempotent, so every request may be repeated, even one that was applied but whose answer
    was lost. Pauses double from `FIRST_PAUSE` up to `LONGEST_PAUSE` and are shortened at random, so that clients that
    failed together do not return together. No attempt starts after ``deadline`` seconds; the last
    `StoreUnavailable` is raised then. A deadline of 0 never repeats. Each repetition is logged, at level INFO.
    """

    inner: Transport
    deadline: float

    def execute(self, request: Any) -> Any:
        pauses = _pauses(time.monotonic() + self.deadline)
        while True:
            try:
                return self.inner.execute(request)
            except StoreUnavailable as error:
                if (pause := next(pauses, None)) is None:
                    raise
                _note_repetition(error)
            time.sleep(pause)

    async def aexecute(self, request: Any) -> Any:
        pauses = _pauses(time.monotonic() + self.deadline)
        while True:
            try:
                return await self.inner.aexecute(request)
            except StoreUnavailable as error:
                if (pause := next(pauses, None)) is None:
                    raise
                _note_repetition(error)
            await asyncio.sleep(pause)

    def close(self) -> None:
        self.inner.close()

    async def aclose(self) -> None:
        await self.inner.aclose()


def _note_repetition(error: StoreUnavailable) -> None:
    _LOG.info("trying again: %s", error)
    note("trying again", error)


def _pauses(give_up_at: float) -> Iterator[float]:
    longest = FIRST_PAUSE
    while True:
        pause = longest * random.uniform(0.5, 1.0)  # noqa: S311  # spreads load, guards nothing
        if time.monotonic() + pause >= give_up_at:
            return
        yield pause
        longest = min(longest * 2, LONGEST_PAUSE)
