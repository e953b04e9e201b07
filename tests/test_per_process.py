"""Resources that belong to a process."""

from __future__ import annotations

import os
import threading
import time

import pytest

from checkpoint_base.errors import StoreUnavailable
from checkpoint_base.per_process import MadeOnce, PerProcess
from tests.forking import done_in_a_fork


class Resource:
    def __init__(self) -> None:
        time.sleep(0.1)  # for other threads to ask meanwhile
        self.process = os.getpid()


def asked_by_threads(resources: PerProcess[Resource]) -> list[Resource]:
    """What threads are given that ask at once."""
    given: list[Resource] = []
    threads = [threading.Thread(target=lambda: given.append(resources.get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 4
    return given


def test_threads_that_ask_at_once_are_given_the_same_resource() -> None:
    resources = PerProcess(Resource)
    [given] = {*asked_by_threads(resources)}
    assert given is resources.get()


def test_every_thread_of_a_forked_process_is_given_the_fork_s_own_resource() -> None:
    resources = PerProcess(Resource)
    of_parent = resources.get()

    def child() -> None:
        [given] = {*asked_by_threads(resources)}
        assert given is not of_parent
        assert given.process == os.getpid()

    done_in_a_fork(child)
    assert resources.get() is of_parent


def test_a_thread_does_not_wait_for_long_while_another_makes_what_both_ask_for() -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def make() -> Resource:
        begun.set()
        assert goes_on.wait(30)
        return Resource()

    once = MadeOnce(make)
    given: list[Resource] = []
    first = threading.Thread(target=lambda: given.append(once.get("it is not there", seconds=30)))
    first.start()
    assert begun.wait(30)
    with pytest.raises(StoreUnavailable, match="it is not there within 0 seconds"):
        once.get("it is not there", seconds=0.01)
    goes_on.set()
    first.join()
    assert [once.get("it is not there", seconds=0)] == given
    assert [once.take()] == given
    assert once.take() is None
