"""Resources that belong to an event loop: an async connection works only on the loop that opened it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import wait
from threading import Lock
from typing import Any, Generic, TypeVar

from checkpoint_base.errors import UnsupportedOperation

T = TypeVar("T")

ENDING_SECONDS = 1.0
"""How long the end of a loop waits for calls that are under way."""

LOOKS_EVERY = 0.05
"""Seconds after which whoever waits for another thread's loop looks whether it still runs."""


class PerLoop(Generic[T]):
    """One resource for each event loop that asks for it. `asyncio.run` closes its loop's before it closes the loop.

    Args:
        make: makes the resource on the running loop.
        close: closes it on the loop that it was made on.
        abandon: frees what a resource holds when it can no longer be closed on its loop; must not block.
        is_busy: whether a resource is in use. The end of a loop waits for that, `ENDING_SECONDS` at most: a generator
            may be storing something while it ends, too.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[T]],
        close: Callable[[T], Coroutine[Any, Any, None]],
        abandon: Callable[[T], None],
        is_busy: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._make = make
        self._close = close
        self._abandon = abandon
        self._is_busy = is_busy
        self._made: dict[asyncio.AbstractEventLoop, asyncio.Future[T]] = {}
        self._ends: dict[asyncio.Future[T], AsyncGenerator[None]] = {}
        self._process = os.getpid()
        self._making: set[asyncio.Task[None]] = set()
        self._changing = Lock()

    async def get(self) -> T:
        """Return the running loop's resource, made for the first call; concurrent calls share one attempt."""
        loop = asyncio.get_running_loop()
        with self._changing:
            future = self._made.get(loop)
            is_first = future is None
            if future is None:
                future = self._made[loop] = loop.create_future()
        if len(self._made) > 1:
            self.abandon_ended()
        if is_first:
            # A task of its own: what a cancelled caller had made by half would be left open, and others wait for it.
            making = loop.create_task(self._provide(future))
            self._making.add(making)
            making.add_done_callback(self._making.discard)
        if not future.done():
            await asyncio.wait([future])  # `asyncio.shield` logs what is raised after its caller was cancelled
        return future.result()

    async def _provide(self, future: asyncio.Future[T]) -> None:
        try:
            resource = await self._make()
            end = self._end(future)
            await anext(end)
            with self._changing:
                is_wanted = self._made.get(future.get_loop()) is future
                if is_wanted:
                    self._ends[future] = end
                    future.set_result(resource)
            if not is_wanted:
                await end.aclose()
                await self._close(resource)
                raise UnsupportedOperation("the saver was closed in the meantime: open another one")  # noqa: TRY301
        except BaseException as error:
            with self._changing:
                if self._made.get(future.get_loop()) is future:
                    del self._made[future.get_loop()]
            if not isinstance(error, Exception):  # the loop ends
                future.cancel()
                raise
            future.set_exception(error)
            future.exception()  # marked as retrieved: perhaps nobody waits any more

    async def _end(self, future: asyncio.Future[T]) -> AsyncGenerator[None]:
        """An async generator that `asyncio.run` ends before it closes the loop, as it does with all of them."""
        try:
            yield
        finally:
            give_up_at = time.monotonic() + ENDING_SECONDS
            while self._is_open(future) and self._is_busy(future.result()) and time.monotonic() < give_up_at:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with self._changing:
                self._ends.pop(future, None)
                is_open = self._is_open(future)
                if is_open:
                    del self._made[future.get_loop()]
            if is_open:
                await self._close(future.result())

    def _is_open(self, future: asyncio.Future[T]) -> bool:
        # A forked process may end its copy of the loop. The resource is its parent's.
        return self._made.get(future.get_loop()) is future and future.done() and self._process == os.getpid()

    async def aclose(self) -> None:
        """Close the resources of every loop, each on its own, and wait for what this one is still making."""
        here = asyncio.get_running_loop()
        for loop, resource in self._taken():
            if loop is here:
                await self._close(resource)
            else:
                await asyncio.to_thread(self._close_from_elsewhere, loop, resource)
        if making := [task for task in [*self._making] if task.get_loop() is here]:
            await asyncio.wait(making)  # then it closes what nobody wants any more

    def close(self) -> None:
        """`aclose` for sync callers. It cannot wait for this thread's own loop, whose resource is abandoned."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        for loop, resource in self._taken():
            if loop is here:
                self._abandon(resource)
            else:
                self._close_from_elsewhere(loop, resource)

    def _close_from_elsewhere(self, loop: asyncio.AbstractEventLoop, resource: T) -> None:
        """Close a resource on the loop of another thread; abandon it if that has ended, or ends meanwhile."""
        if loop.is_running():
            closing = self._close(resource)
            try:
                future = asyncio.run_coroutine_threadsafe(closing, loop)
            except RuntimeError:  # it has been closed since we looked
                closing.close()
            else:
                while loop.is_running() and not future.done():
                    wait([future], timeout=LOOKS_EVERY)
                if future.done() and not future.cancelled():  # `asyncio.run` cancels what is left at its end
                    future.result()
                    return
        self._abandon(resource)

    def _taken(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        with self._changing:  # what is made is there, and has not failed, as long as this is held
            made, self._made = self._made, {}
            return [(loop, future.result()) for loop, future in made.items() if future.done()]

    def abandon_ended(self) -> None:
        """Abandon the resources of loops that were closed in another way than by `asyncio.run`."""
        if not self._made and not self._ends:
            return
        with self._changing:
            ended = [loop for loop in self._made if loop.is_closed()]
            futures = [self._made.pop(loop) for loop in ended]
            for future in [future for future in self._ends if future.get_loop().is_closed()]:
                del self._ends[future]
        for future in futures:
            if future.done():
                self._abandon(future.result())


class OneLoop:
    """Refuses two event loops at once to a resource of the user's, whose library would fail then or wait for ever."""

    def __init__(self, refusal: str) -> None:
        self._refusal = refusal
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Raise `UnsupportedOperation` unless the last loop that used the resource is the running one or has ended."""
        here = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not here and self._loop.is_running():
            raise UnsupportedOperation(self._refusal)
        self._loop = here
