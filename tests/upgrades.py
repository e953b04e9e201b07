"""What the tests of upgrades share: a thread that waits, and all that may meet a store that was taken over."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from checkpoint_base import CheckpointSaver, SchemaMismatch

CONFIG: Any = {"configurable": {"thread_id": "thread"}}

ANSWERED = ["in", "yes", "x" * 2000]
"""What the thread holds in the end."""


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def graph(saver: CheckpointSaver) -> Any:
    builder = StateGraph(State)
    builder.add_node("ask", lambda state: {"log": [interrupt("go on?"), "x" * 2000]})
    builder.add_edge(START, "ask")
    return builder.compile(checkpointer=saver)


def asks(saver: CheckpointSaver) -> None:
    graph(saver).invoke({"log": ["in"]}, CONFIG)


def answers(saver: CheckpointSaver) -> Any:
    return graph(saver).invoke(Command(resume="yes"), CONFIG)["log"]


def assert_told_to_upgrade(saver: CheckpointSaver) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: graph(saver).get_state(CONFIG),
        lambda: answers(saver),
        lambda: graph(saver).invoke({"log": []}, {"configurable": {"thread_id": "new"}}),
        lambda: list(saver.list(None)),
        lambda: list(saver.list(CONFIG)),
        lambda: list(saver.threads()),
        lambda: list(saver.interrupts()),
        lambda: saver.prune(["thread"]),
        lambda: saver.delete_thread("thread"),
        lambda: saver.delete_for_runs(["run"]),
        lambda: saver.copy_thread("thread", "copy"),
        saver.setup,
    ]
    for call in calls:
        with pytest.raises(SchemaMismatch, match="upgrade"):
            call()
