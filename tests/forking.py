"""What a process forked from this one does."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable


def done_in_a_fork(work: Callable[[], object]) -> None:
    """Fail unless a fork of this process comes to the end of its work."""
    forked = multiprocessing.get_context("fork").Process(target=work)
    forked.start()
    forked.join(60)
    if forked.is_alive():
        forked.kill()
    assert forked.exitcode == 0
