"""What operations cost on S3: requests and bytes, counted on a real server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Interrupt

from checkpoint_base import open_saver
from checkpoint_s3 import S3Saver
from checkpoint_s3.transport import Get, Put
from tests.s3.counting import CountingTransport, counted

PUT_PRICE, GET_PRICE = 0.005 / 1000, 0.0004 / 1000
"""List prices in dollars: PUT, COPY and LIST; GET. Deleting is free."""

PEER_BYTES_FOR_400 = 94_400_000
"""What langgraph-checkpoint-postgres 3.2.0 stores for the same chat, measured."""

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


@pytest.fixture
def saver(radosgw_url: str) -> Iterator[S3Saver]:
    with S3Saver.from_conn_string(radosgw_url) as opened:
        yield opened


def put(saver: S3Saver, values: dict[str, Any], config: Any = CONFIG, **metadata: Any) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)


def dollars(kinds: Counter[str]) -> float:
    return (kinds["Put"] + kinds["Copy"] + kinds["List"]) * PUT_PRICE + kinds["Get"] * GET_PRICE


# Single operations


def test_put_is_exactly_one_put(saver: S3Saver) -> None:
    config = put(saver, {"n": 0})
    transport = counted(saver)
    for number in range(20):
        config = put(saver, {"n": number, "messages": ["x" * 1500] * number}, config)
    assert transport.kinds == {"Put": 20}
    assert len(transport.steps) == 20


def test_the_first_put_of_a_process_to_a_thread_looks_once_whether_something_was_removed(saver: S3Saver) -> None:
    transport = counted(saver)
    put(saver, {"n": 0})
    assert transport.kinds == {"Get": 1, "Put": 1}


def test_put_writes_is_exactly_one_put(saver: S3Saver) -> None:
    config = put(saver, {"n": 0})
    transport = counted(saver)
    for number in range(5):
        saver.put_writes(config, [("a", "x" * 2000), ("b", number)], f"task-{number}")
    assert transport.kinds == {"Put": 5}


def test_writes_that_are_sent_cumulatively_are_one_put_each(saver: S3Saver) -> None:
    config = put(saver, {"n": 0})
    transport = counted(saver)
    for number in range(1, 5):
        saver.put_writes(config, [("a", at) for at in range(number)], "task")
    assert transport.kinds == {"Put": 4}
    assert [value for _, _, value in saver.get_tuple(config).pending_writes] == [0, 1, 2, 3]


def test_a_special_write_is_one_put_more_and_a_question_one_more_for_its_marker(saver: S3Saver) -> None:
    config = put(saver, {"n": 0})
    transport = counted(saver)
    saver.put_writes(config, [("a", 1), ("__resume__", ["yes"])], "task-1")
    assert transport.kinds == {"Put": 2}
    assert len(transport.steps) == 1
    transport.forget()
    saver.put_writes(config, [("__interrupt__", (Interrupt("sure?", id="i"),))], "task-2")
    assert transport.kinds == {"Put": 2}
    assert len(transport.steps) == 2


def test_writes_that_are_there_already_cost_a_look(saver: S3Saver) -> None:
    config = put(saver, {"n": 0})
    saver.put_writes(config, [("a", 1)], "task")
    transport = counted(saver)
    saver.put_writes(config, [("a", 2)], "task")
    assert transport.kinds["Put"] == 0
    assert saver.get_tuple(config).pending_writes == [("task", "a", 1)]


def test_a_resume_takes_two_steps_and_one_listing(saver: S3Saver, radosgw_url: str) -> None:
    config: Any = CONFIG
    for number in range(40):
        config = put(saver, {"messages": [f"{at}".ljust(1200, ".") for at in range(number)]}, config)
    saver.put_writes(config, [("a", 1)], "task-1")
    with S3Saver.from_conn_string(radosgw_url) as reader:
        transport = counted(reader)
        found = reader.get_tuple(CONFIG)
    assert len(found.checkpoint["channel_values"]["messages"]) == 39
    assert found.pending_writes == [("task-1", "a", 1)]
    assert len(transport.steps) == 2
    assert transport.kinds["List"] == 1
    assert len(transport.calls) <= 12


def test_a_listing_is_one_page_of_names_and_parallel_reads(saver: S3Saver) -> None:
    config: Any = CONFIG
    for number in range(30):
        config = put(saver, {"n": number, "long": ["x" * 1500] * 5}, config)
    transport = counted(saver)
    assert len(list(saver.list(CONFIG))) == 30
    assert len(transport.steps) == 2
    assert transport.kinds["List"] == 1
    assert transport.kinds["Get"] <= 31


def test_a_history_reads_no_values(saver: S3Saver) -> None:
    config: Any = CONFIG
    for number in range(30):
        config = put(saver, {"n": number, "large": "x" * 200_000 + str(number)}, config)
    transport = counted(saver)
    assert len(list(saver.history(CONFIG))) == 30
    assert len(transport.steps) == 2
    ranges = [call.first for call in transport.calls if isinstance(call, Get) and not call.key.endswith("!")]
    assert len(ranges) == 30
    assert all(first is not None and first < 10_000 for first in ranges)


def test_listing_a_thousand_checkpoints_pages_without_overlap(saver: S3Saver) -> None:
    key = saver.store._reader.folder("thread")
    config: Any = CONFIG
    ids = []
    for number in range(120):
        config = put(saver, {"n": number}, config)
        ids.append(config["configurable"]["checkpoint_id"])
    assert key.endswith("/")
    transport = counted(saver)
    found = [each.config["configurable"]["checkpoint_id"] for each in saver.list(CONFIG)]
    assert found == ids[::-1]
    assert transport.kinds["List"] == 2


# A chat


class Chat(TypedDict):
    messages: Annotated[list[Any], add_messages]


def chat(saver: S3Saver, messages: int, thread_id: str) -> None:
    """Run a chat with a checkpoint at every step."""
    randomness = random.Random(messages)
    words = ["".join(randomness.choices("abcdefghijklmnopqrstuvwxyz", k=randomness.randint(2, 9))) for _ in range(3000)]
    numbers = count()

    def text() -> str:
        return f"{next(numbers)} {' '.join(randomness.choices(words, k=200))}"[:1000]

    builder = StateGraph(Chat)
    builder.add_node("reply", lambda state: {"messages": [AIMessage(text())]})
    builder.add_edge(START, "reply")
    graph = builder.compile(checkpointer=saver)
    for _ in range(messages // 2):
        graph.invoke(
            {"messages": [HumanMessage(text())]}, {"configurable": {"thread_id": thread_id}}, durability="sync"
        )


def sent_bytes(transport: CountingTransport) -> int:
    return sum(len(call.body) + len(call.key) for call in transport.calls if isinstance(call, Put))


@pytest.mark.timeout(600)
def test_a_chat_of_400_is_resumed_in_two_steps_and_costs_a_thirtieth_of_the_peer(
    saver: S3Saver, radosgw_url: str
) -> None:
    stored = {}
    for messages in (400, 800):
        transport = counted(saver)
        chat(saver, messages, f"chat-{messages}")
        stored[messages] = sent_bytes(transport)
        with open_saver(radosgw_url) as reader:
            assert isinstance(reader, S3Saver)
            watched = counted(reader)
            found = reader.get_tuple({"configurable": {"thread_id": f"chat-{messages}"}})
            assert found is not None
            assert len(found.checkpoint["channel_values"]["messages"]) == messages
            assert len(watched.steps) == 2
            assert len(watched.calls) <= 12
            read = watched.kinds
    print(stored, read)
    assert stored[400] <= PEER_BYTES_FOR_400 / 30
    assert stored[800] <= 2.2 * stored[400]


def test_a_million_one_task_steps_cost_ten_dollars(saver: S3Saver) -> None:
    class State(TypedDict):
        n: int

    steps = 50
    builder = StateGraph(State)
    builder.add_node("step", lambda state: {"n": state["n"] + 1})
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", lambda state: "step" if state["n"] < steps else "__end__")
    graph = builder.compile(checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "loop"}, "recursion_limit": 1000}
    graph.invoke({"n": 0}, config, durability="sync")
    transport = counted(saver)
    graph.invoke({"n": 0}, config, durability="sync")
    kinds = transport.kinds
    # The checkpoint of the input is the run's and not a step's; with it come a listing and what it names.
    assert kinds["Put"] <= 2 * (steps + 1)
    assert dollars(Counter({"Put": 2, "Get": 0})) * 1_000_000 == pytest.approx(10)
    per_step = (dollars(kinds) - 2 * PUT_PRICE - PUT_PRICE - 12 * GET_PRICE) / steps
    assert per_step * 1_000_000 <= 10
