"""A fair semaphore for the callers of one event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class NoTurn(Exception):
    """Nobody has been served for too long."""


class Turns:
    """Admits at most ``most`` callers of one event loop at a time, in the order in which they came.

    A caller keeps its place for as long as others are served, however long that takes: if it gave up and came again, it
    would be behind all those who came later, and some callers would never be served.
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._line: deque[asyncio.Future[None]] = deque()  # whoever gives up leaves its future there, cancelled
        self._served_at = 0.0

    @property
    def taken(self) -> bool:
        """Whether anybody has a turn."""
        return self._free < self._most

    @asynccontextmanager
    async def turn(self, *, seconds: float) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the context.

        Raises:
            NoTurn: nobody has been served for ``seconds``. Whoever left the context with an error does not count.
        """
        if self._free:  # then nobody waits
            self._free -= 1
        else:
            await self._wait(seconds)
        try:
            yield
            self._served_at = time.monotonic()
        finally:
            self._pass_on()

    async def _wait(self, seconds: float) -> None:
        came_at = time.monotonic()
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            while not turn.done() and (patience := max(came_at, self._served_at) + seconds - time.monotonic()) > 0:
                await asyncio.wait([turn], timeout=patience)
        except BaseException:
            if not turn.cancel():  # the turn came at the same moment
                self._pass_on()
            raise
        if turn.cancel():
            raise NoTurn

    def _pass_on(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
