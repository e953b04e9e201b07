"""The graph that is killed: a fan-out, a subgraph that asks, a node with tasks that asks, and a loop.

Whatever a node does it writes into a journal, a file that is on the disk before the node returns.
"""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config
from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from conformance_tests.graphs import Builder
from conformance_tests.worker import write_down


class State(TypedDict):
    done: Annotated[list[str], operator.add]
    rounds: int


INPUT: State = {"done": [], "rounds": 0}

QUESTIONS = ("go on?", "sign?")

FINAL = {
    "done": ["plan", "work a", "work b", "ask go on? yes", "note", "desk 1 2 sign? yes", "count 1", "count 2"],
    "rounds": 2,
}


def answer_to(question: str) -> str:
    return f"{question} yes"


def graph_on(saver: Any, journal: str) -> Any:
    """The graph, whose nodes append their side effects to a journal."""

    def did(what: str, config: RunnableConfig) -> None:
        meta, named = config["metadata"], config["configurable"]
        place = meta["langgraph_checkpoint_ns"]
        # The checkpoints that this step stands on: if one of them is lost, so is the step.
        stands_on = dict(named["checkpoint_map"])
        if len(meta["langgraph_path"]) == 4:  # a called task: its caller has no checkpoints of its own
            stands_on.pop(place.rpartition("|")[0], None)
        write_down(journal, did=what, task=place.rpartition("|")[2].rpartition(":")[2], stands_on=stands_on)

    def plan(_: State, config: RunnableConfig) -> dict[str, Any]:
        did("plan", config)
        return {"done": ["plan"]}

    def fan_out(_: State) -> list[Send]:
        return [Send("work", name) for name in ("a", "b")]

    def work(name: str, config: RunnableConfig) -> dict[str, Any]:
        did(f"work {name}", config)
        return {"done": [f"work {name}"]}

    def ask(_: State, config: RunnableConfig) -> dict[str, Any]:
        answer = interrupt(QUESTIONS[0])
        did("ask", config)
        return {"done": [f"ask {answer}"]}

    def note(_: State, config: RunnableConfig) -> dict[str, Any]:
        did("note", config)
        return {"done": ["note"]}

    def child(_: State, config: RunnableConfig) -> dict[str, Any]:
        inner = questions.invoke(INPUT, config)
        return {"done": inner["done"]}

    @task
    def fetch(number: int) -> int:
        did(f"fetch {number}", get_config())
        return number

    def desk(_: State, config: RunnableConfig) -> dict[str, Any]:
        futures = [fetch(1), fetch(2)]
        fetched = " ".join(str(future.result()) for future in futures)
        answer = interrupt(QUESTIONS[1])
        did("desk", config)
        return {"done": [f"desk {fetched} {answer}"]}

    def count(state: State, config: RunnableConfig) -> dict[str, Any]:
        rounds = state["rounds"] + 1
        did(f"count {rounds}", config)
        return {"done": [f"count {rounds}"], "rounds": rounds}

    def again(state: State) -> str:
        return "count" if state["rounds"] < 2 else END

    asking: Builder = StateGraph(State)
    asking.add_node("ask", ask)
    asking.add_node("note", note)
    asking.add_edge(START, "ask")
    asking.add_edge("ask", "note")
    questions = asking.compile()

    building: Builder = StateGraph(State)
    for node in (plan, work, child, desk, count):
        building.add_node(node.__name__, node)
    building.add_edge(START, "plan")
    building.add_conditional_edges("plan", fan_out, ["work"])
    building.add_edge("work", "child")
    building.add_edge("child", "desk")
    building.add_edge("desk", "count")
    building.add_conditional_edges("count", again, ["count", END])
    return building.compile(checkpointer=saver)
