"""Damaged bytes are noticed on every backend, and hurt nothing but what they were part of."""

from __future__ import annotations

from tests.faults.backends import Backend
from tests.faults.damage import damaged, worked_on


def test_what_is_damaged_is_read_as_it_was_or_raises_corrupt_checkpoint(backend: Backend) -> None:
    times = backend.most(120)
    figures = damaged(backend, times=times, seed="test")
    figures.check()
    assert figures.damages >= times * 3 // 4


def test_a_damaged_thread_can_be_deleted_whole_after_any_call(backend: Backend) -> None:
    figures = worked_on(backend, times=backend.most(24), seed="test")
    figures.check()
    assert figures.damages >= backend.most(24) * 3 // 4
