"""Processes that are killed at any request, or at any time, lose nothing that was acknowledged."""

from __future__ import annotations

import random

import pytest

from tests.faults.backends import BACKENDS, Backend
from tests.faults.crashes import COLOURS, DURABILITIES, Runs, every_request, from_outside, spread
from tests.faults.worker import Processes

MOST_KILLS = 4
"""In each durability and colour; `make soak` kills at every request."""


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_run_killed_at_a_request_ends_as_if_it_had_not_been(
    backend: Backend, processes: Processes, durability: str, colour: str
) -> None:
    runs = Runs(processes, backend, durability, colour)
    whole = runs.whole()
    most = backend.most(MOST_KILLS)
    figures = runs.crashed(whole, spread(every_request(whole), most, COLOURS.index(colour)))
    figures.check()
    assert figures.crashes >= most // 2


def test_a_run_that_is_killed_from_outside_again_and_again_still_ends(backend: Backend, processes: Processes) -> None:
    durability = DURABILITIES[list(BACKENDS).index(backend.name) % 3]
    runs = Runs(processes, backend, durability, "sync")
    whole = min((runs.whole() for _ in range(2)), key=lambda each: each.seconds)  # one may be held up
    figures = runs.crashed(whole, from_outside(whole, random.Random(7), backend.most(4)))
    figures.check()
    assert figures.crashes >= 1
