"""Group commit: the line in which the writers of one process wait for their turn.

SQLite admits one writer to a file. Whoever has the turn carries out the requests of everybody in line, several in one
transaction, so that they share one wait for the disk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol, TypeAlias

from checkpoint_base.errors import StoreUnavailable
from checkpoint_base.sqlite import connections

Outcome: TypeAlias = tuple[Any, BaseException | None]
"""What a request returned, or the error that it raised."""


class Request(Protocol):
    @property
    def is_shared(self) -> bool:
        """Whether it may be carried out together with others, in one transaction."""


class InLine:
    """A request in line.

    ``signal`` is held until the request is done or has the turn, for a caller who waits for that.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.is_waited_for = False
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.signal = Lock()
        self.signal.acquire()

    def settle(self, result: Any, error: BaseException | None) -> None:
        self.result, self.error, self.is_done = result, error, True
        self.wake()

    def wake(self) -> None:
        if self.is_waited_for:
            self.is_waited_for = False
            self.signal.release()

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class Line:
    """Requests in the order in which they came.

    Args:
        carry_out: carries out several requests at once, in their order; raises nothing that is an `Exception`.
        path: of the file, for messages.
    """

    def __init__(self, carry_out: Callable[[Sequence[Any]], Sequence[Outcome]], path: str) -> None:
        self._carry_out = carry_out
        self._path = path
        self._line: deque[InLine] = deque()
        self._lock = Lock()  # held for moments only, never while anything is waited for
        self._has_turn: InLine | None = None

    def join(self, request: Request) -> InLine:
        waiting = InLine(request)
        with self._lock:  # the line must not change while others iterate over it
            self._line.append(waiting)
        return waiting

    def serve(self, waiting: InLine) -> Any:
        """Wait until a request is done or has the turn, then carry out the line until it is done; return its result.

        Raises:
            StoreUnavailable: it did not get the turn in time.
        """
        try:
            self._wait(waiting)
            while self._has_turn is waiting and self._is_in_line(waiting):
                self._carry_out_first()
        finally:  # even if a signal handler raised anywhere above: a turn that is kept blocks every writer
            self._leave(waiting)
        if not waiting.is_done:
            raise self._ended()
        return waiting.outcome()

    def cancel(self, waiting: InLine) -> None:
        """Take out a request whose caller has given up. A thread that serves it passes its turn on."""
        with self._lock, suppress(ValueError):
            self._line.remove(waiting)
            waiting.settle(None, asyncio.CancelledError())

    def _is_in_line(self, waiting: InLine) -> bool:
        with self._lock:
            return waiting in self._line

    def _wait(self, waiting: InLine) -> None:
        with self._lock:
            if waiting.is_done:
                return
            if self._has_turn is None:
                self._has_turn = waiting
                return
            waiting.is_waited_for = True
        patience = connections.BUSY_SECONDS
        if not waiting.signal.acquire(timeout=patience):
            with self._lock:
                if waiting.is_waited_for:
                    raise StoreUnavailable(
                        f"{self._path}: other threads have kept the file busy for {patience} seconds"
                    )

    def _leave(self, waiting: InLine) -> None:
        """Pass the turn on if this request has it, even if it got it just now, and take the request out of the line."""
        with self._lock:
            waiting.is_waited_for = False
            if self._has_turn is waiting:
                self._has_turn = next((each for each in self._line if each.is_waited_for), None)
                if self._has_turn:
                    self._has_turn.wake()
            if not waiting.is_done:
                with suppress(ValueError):  # it is being written just now
                    self._line.remove(waiting)

    def _carry_out_first(self) -> None:
        """Carry out the first request in line, and those behind it that may share its transaction."""
        batch: list[InLine] = []
        outcomes: Sequence[Outcome] = ()
        try:
            with self._lock:
                while self._line and (not batch or (batch[0].request.is_shared and self._line[0].request.is_shared)):
                    batch.append(self._line[0])  # before it leaves the line: a signal may end this thread in between
                    self._line.popleft()
            if batch:  # else the call that has the turn was cancelled just now
                outcomes = self._carry_out([waiting.request for waiting in batch])
        finally:
            if not outcomes:  # this thread is being ended, which is no reason for the others to end
                outcomes = [(None, self._ended())] * len(batch)
            with self._lock:
                for waiting, (result, error) in zip(batch, outcomes, strict=True):
                    waiting.settle(result, error)

    def _ended(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path}: another thread was ended while it wrote for this one")
