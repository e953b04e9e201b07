"""Resources that belong to a process: connections, and locks that a thread may hold when the process is forked."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

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
