"""What a chat costs on disk, through a real graph."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

from checkpoint_base import SQLiteSaver

PEER_BYTES_FOR_400 = 94_400_000
"""What langgraph-checkpoint-postgres 3.2.0 stores for the same chat, measured."""


class Chat(TypedDict):
    messages: Annotated[list[Any], add_messages]


def chat_file(path: Path, messages: int) -> int:
    """Run a chat with a checkpoint at every step; return the size of its file once it is closed."""
    randomness = random.Random(messages)
    words = ["".join(randomness.choices("abcdefghijklmnopqrstuvwxyz", k=randomness.randint(2, 9))) for _ in range(3000)]
    numbers = count()

    def text() -> str:
        return f"{next(numbers)} {' '.join(randomness.choices(words, k=200))}"[:1000]

    builder = StateGraph(Chat)
    builder.add_node("reply", lambda state: {"messages": [AIMessage(text())]})
    builder.add_edge(START, "reply")
    config: Any = {"configurable": {"thread_id": "chat"}}
    with SQLiteSaver(path) as saver:
        graph = builder.compile(checkpointer=saver)
        for _ in range(messages // 2):
            graph.invoke({"messages": [HumanMessage(text())]}, config, durability="sync")
    with SQLiteSaver(path) as reader:
        found = reader.get_tuple(config)
        assert found is not None
        assert len(found.checkpoint["channel_values"]["messages"]) == messages
        assert len(list(reader.history(config))) == messages * 3 // 2
    return os.path.getsize(path)


@pytest.mark.timeout(300)
def test_a_chat_of_400_costs_a_thirtieth_of_the_peer_and_one_of_800_about_twice_that(tmp_path: Path) -> None:
    size_of_400 = chat_file(tmp_path / "400.db", 400)
    assert size_of_400 <= PEER_BYTES_FOR_400 / 30
    assert chat_file(tmp_path / "800.db", 800) <= 2.2 * size_of_400


def test_a_message_that_a_task_writes_and_the_state_then_holds_is_stored_once(tmp_path: Path) -> None:
    builder = StateGraph(Chat)
    builder.add_node("reply", lambda state: {"messages": [AIMessage("the answer ".ljust(1000, "."), id="2")]})
    builder.add_edge(START, "reply")
    with SQLiteSaver(tmp_path / "chat.db") as saver:
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"messages": [HumanMessage("?" * 1000, id="1")]}, {"configurable": {"thread_id": "1"}})
    with closing(sqlite3.connect(tmp_path / "chat.db")) as file:
        bodies = [body for (body,) in file.execute("SELECT body FROM chunks")]
    assert sum(b"the answer" in body for body in bodies) == 1
