"""What many callers at once are told can be explained; and the explanation is not too easily given."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.backends import Backend
from tests.faults.history import ROOT, Event, unexplained
from tests.faults.races import raced
from tests.faults.worker import Processes


def test_the_history_of_several_processes_can_be_explained(backend: Backend, processes: Processes) -> None:
    calls = backend.most(8)
    figures = raced(processes, backend, seed="test", calls=calls)
    figures.check()
    assert figures.operations == 3 * 10 * calls


def put(id_: str, start: float, end: float | None) -> Event:
    return Event("put", "t", start, end, id_)


def write(kind: str, value: str, start: float, end: float | None) -> Event:
    return Event(kind, "t", start, end, value, "a")


def read(kind: str, what: Any, start: float) -> Event:
    return Event(kind, "t", start, start + 0.5, what)


def winner(value: str, start: float) -> Event:
    return read("writes", [["a", "winner", value]], start)


def resume(value: str, start: float) -> Event:
    return read("writes", [["a", "__resume__", value]], start)


ROOT_ID = ROOT["id"]

EXPLAINED: dict[str, list[Event]] = {
    "nothing": [],
    "the latest while another is put": [put("2a", 1, 2), put("2b", 3, 9), read("latest", "2a", 4)],
    "one that is being put": [put("2b", 3, 9), read("latest", "2b", 4), read("latest", ROOT_ID, 5)],
    "one without an answer": [put("2b", 3, None), read("latest", "2b", 40), read("listed", ["2b", ROOT_ID], 50)],
    "the first of two at once": [write("first", "x", 1, 4), write("first", "y", 2, 3), winner("x", 5), winner("x", 6)],
    "the last of two at once": [write("last", "x", 1, 4), write("last", "y", 2, 3), resume("y", 5), resume("x", 6)],
    "a special write without an answer": [write("last", "x", 1, None), write("last", "y", 2, 3), resume("x", 9)],
}

UNEXPLAINED: dict[str, list[Event]] = {
    "a lost put": [put("2a", 1, 2), read("latest", ROOT_ID, 3)],
    "a smaller id": [put("2b", 1, 2), put("2a", 3, 4), read("latest", "2a", 5)],
    "a stranger": [read("latest", "2c", 3)],
    "half a checkpoint": [put("2a", 1, 2), read("latest", "half of 2a", 3)],
    "no checkpoint": [read("latest", None, 3)],
    "a put from the future": [put("2a", 8, 9), read("latest", "2a", 3)],
    "a list with a gap": [put("2a", 1, 2), read("listed", [ROOT_ID], 3)],
    "a list in disorder": [put("2a", 1, 2), read("listed", [ROOT_ID, "2a"], 3)],
    "a list with one twice": [put("2a", 1, 2), read("listed", ["2a", "2a", ROOT_ID], 3)],
    "a lost first checkpoint": [read("writes", None, 3)],
    "a lost write": [write("first", "x", 1, 2), read("writes", [], 3)],
    "a second write that won": [write("first", "x", 1, 2), write("first", "y", 3, 4), winner("y", 5)],
    "two winners": [write("first", "x", 1, 4), write("first", "y", 2, 3), winner("x", 5), winner("y", 6)],
    "a winner that nobody wrote": [winner("y", 5)],
    "a lost special write": [write("last", "x", 1, 2), read("writes", [], 3)],
    "a special write that was not replaced": [write("last", "x", 1, 2), write("last", "y", 3, 4), resume("x", 5)],
    "a special write that came back": [
        write("last", "x", 1, 2),
        write("last", "y", 3, 9),
        resume("y", 4),
        resume("x", 6),
    ],
    "a special write that nobody wrote": [resume("y", 5)],
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_a_correct_store_may_answer_is_explained(name: str) -> None:
    assert unexplained(EXPLAINED[name]) == []


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_what_no_correct_store_answers_is_found(name: str) -> None:
    assert len(unexplained(UNEXPLAINED[name])) >= 1
