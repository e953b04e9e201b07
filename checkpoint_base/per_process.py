"""Resources that belong to a process: connections, and locks that a thread may hold when the process is forked."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar

from checkpoint_base.errors import StoreUnavailable

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One resource for each process that asks for it, so that a forked process begins with one of its own.

    What its parent made is kept and never closed here, because that would end the parent's connections.

    Args:
        make: makes the resource. Threads that ask at once may each call it; the resource of one of them is used.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """Return the running process's resource, made at the first call."""
        process = os.getpid()
        try:
            return self._made[process]
        except KeyError:
            # Without a lock, because a fork may inherit it locked: `setdefault` lets one of several threads win.
            return self._made.setdefault(process, self._make())


class MadeOnce(Generic[T]):
    """One resource for all threads of a process: the first that asks for it makes it, and the others wait for that.

    Args:
        make: makes the resource, which may take as long as a server takes to answer.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.made: T | None = None
        self._make = make
        self._making = RLock()  # unlike a Lock, it refuses to be released by a thread that does not hold it

    def get(self, late: str, *, seconds: float) -> T:
        """Return the resource.

        Raises:
            StoreUnavailable: another thread has been making it for ``seconds``, and the caller has a deadline to keep.
                ``late`` begins the message.
        """
        if (made := self.made) is not None:
            return made
        try:  # before the lock is acquired, because a signal handler may raise as soon as it is
            if not self._making.acquire(timeout=seconds):
                raise StoreUnavailable(f"{late} within {seconds:.0f} seconds")
            if self.made is None:
                self.made = self._make()
            return self.made
        finally:
            try:  # noqa: SIM105  # in a call of `suppress` a signal handler could raise, too
                self._making.release()
            except RuntimeError:  # not acquired
                pass

    def take(self) -> T | None:
        """Return the resource, if there is one or it is being made, and forget it: it belongs to the caller."""
        with self._making:
            made, self.made = self.made, None
        return made
