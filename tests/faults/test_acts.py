"""Each call happens or does not happen, also when its process is killed or its connection is cut."""

from __future__ import annotations

import pytest

from tests.faults.acts import ACTS, expectations
from tests.faults.atomicity import CHANGES, calls_on
from tests.faults.backends import Backend
from tests.faults.crashes import COLOURS
from tests.faults.worker import Processes


def test_every_act_that_changes_something_shows_in_the_snapshot() -> None:
    expected = expectations()
    hidden = "put_writes too early"  # until their checkpoint is put; but deleting must find them
    for act in ACTS:
        right = expected[act.name]
        assert (right.before == right.after) == (act.is_question or act.name == hidden), act.name
    assert len({right.after for right in expected.values()}) == len(CHANGES)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_call_killed_at_any_request_has_happened_or_not_and_may_be_repeated(
    backend: Backend, processes: Processes, colour: str
) -> None:
    with calls_on(backend) as calls:
        at = COLOURS.index(colour)
        figures = calls.killed(processes, CHANGES[at::2], colour, most=backend.most(2), first=at)
    figures.check()
    assert figures.crashes >= len(CHANGES) // 2
