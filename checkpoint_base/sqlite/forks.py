"""No connection to a file is open at the moment at which the process forks.

SQLite keeps in memory which locks its process has on a file. A fork gets a copy of that, but none of the locks. So as
long as it has inherited a connection, whatever it opens on the same file goes unlocked: once the parent has closed the
file, other processes delete the write-ahead log that the fork writes to, and what it stored is lost. And if another
thread of the parent was writing, the fork finds the file locked for ever.
"""

from __future__ import annotations

import os
import time
from threading import Lock, get_ident
from typing import Protocol
from weakref import WeakValueDictionary

FORK_SECONDS = 30.0
"""How long a fork waits for what other threads do with their connections. Then it happens nevertheless."""

GATE = Lock()
"""Held while the process forks, and for a moment by whoever takes a connection."""


class Pausable(Protocol):
    def is_used_elsewhere(self, thread: int) -> bool:
        """Whether a thread other than this one has a connection now."""

    def close_idle(self) -> None:
        """Close what nobody has; more is opened when it is needed."""


_open: WeakValueDictionary[int, Pausable] = WeakValueDictionary()
_has_gate = False


def close_before_forks(connections: Pausable) -> None:
    """Close connections before each fork of this process, which their users get from now on through `GATE`."""
    _open[id(connections)] = connections


def _before() -> None:
    global _has_gate
    give_up_at = time.monotonic() + FORK_SECONDS
    _has_gate = GATE.acquire(timeout=FORK_SECONDS)
    known = [connections for reference in _open.valuerefs() if (connections := reference())]
    # A thread that forks from a signal handler may have a connection itself, and would wait in vain.
    while any(each.is_used_elsewhere(get_ident()) for each in known) and time.monotonic() < give_up_at:
        time.sleep(0.001)
    for each in known:
        each.close_idle()


def _after_in_parent() -> None:
    if _has_gate:
        GATE.release()


def _after_in_child() -> None:
    _open.clear()  # the parent's
    _after_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
