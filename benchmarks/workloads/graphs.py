"""Whole graphs through LangGraph itself: a fan-out, a big state, an agent, and an answer to a question."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt

from benchmarks.measure import Timings
from benchmarks.results import Results, said, timed
from benchmarks.sides import Backend
from benchmarks.traffic import Prose, latest
from benchmarks.wire import NOTHING
from benchmarks.workloads.contenders import Contender, all_of, settled

MEMORY = "InMemorySaver"
"""The floor of a whole graph: LangGraph's saver that stores nothing outside the process."""

Durability = Literal["sync", "async", "exit"]


@dataclass(frozen=True, slots=True)
class Workload:
    """A graph, and its input for each run: on the same thread every time, or on a new one."""

    name: str
    operation: str
    build: Callable[[Any], Any]
    inputs: Callable[[int], Any]
    calls: int
    same_thread: bool = True
    durability: Durability = "sync"


# The graphs


class _Fan(TypedDict):
    items: list[str]
    found: Annotated[list[str], operator.add]


def _fan_out(prose: Prose, saver: Any) -> Any:
    """16 tasks in one super-step, each of which returns 1 KB."""
    builder = StateGraph(_Fan)
    builder.add_node("look", lambda _: {"found": [prose.text()]})
    builder.add_conditional_edges(START, lambda state: [Send("look", {"items": [item]}) for item in state["items"]])
    builder.add_edge("look", END)
    return builder.compile(checkpointer=saver)


def _fan_in(number: int) -> Any:
    return {"items": [f"item {number}.{task}" for task in range(16)]}


def _update(documents: dict[str, str], change: dict[str, str]) -> dict[str, str]:
    return {**documents, **change}


class _Library(TypedDict):
    documents: Annotated[dict[str, str], _update]
    edits: int
    shelf: str


def _library(prose: Prose, saver: Any) -> Any:
    """500 documents of 10 KB each; every run changes one of them."""
    builder = StateGraph(_Library)

    def edit(state: _Library) -> Any:
        number = state.get("edits", 0)
        if number == 0:
            return {"documents": {f"document {n}": prose.text(10_000) for n in range(500)}, "edits": 1}
        return {"documents": {f"document {number * 37 % 500}": prose.text(10_000)}, "edits": number + 1}

    builder.add_node("edit", edit)
    builder.add_edge(START, "edit")
    return builder.compile(checkpointer=saver)


class _Agent(TypedDict):
    messages: Annotated[list[Any], add_messages]


def _agent(prose: Prose, saver: Any) -> Any:
    """A model that calls two tools, reads their answers of 2 KB, calls two more, and replies."""

    def model(state: _Agent) -> Any:
        asked = sum(isinstance(message, ToolMessage) for message in state["messages"])
        calls = [{"name": "search", "args": {"query": prose.text(60)}, "id": f"call-{asked + n}"} for n in range(2)]
        return {"messages": [AIMessage(prose.text(300), tool_calls=calls if asked < 4 else [])]}

    def tools(state: _Agent) -> Any:
        calls = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(prose.text(2000), tool_call_id=call["id"]) for call in calls]}

    builder = StateGraph(_Agent)
    builder.add_node("model", model)
    builder.add_node("tools", tools)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=saver)


def _question(prose: Prose, saver: Any) -> Any:
    """A chat of 50 messages that ends with a question to a human."""
    builder = StateGraph(_Agent)
    builder.add_node("ask", lambda _: {"messages": [HumanMessage(str(interrupt("Shall I?")))]})
    builder.add_node("act", lambda _: {"messages": [AIMessage(prose.text())]})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "act")
    return builder.compile(checkpointer=saver)


def _workloads(quick: bool) -> Sequence[Workload]:
    prose = Prose(2)
    agent = partial(_agent, prose)
    durabilities: tuple[Durability, ...] = ("sync", "async", "exit")
    return (
        Workload("fan-out of 16 tasks", "invoke", partial(_fan_out, prose), _fan_in, 6 if quick else 20),
        Workload("big state", "invoke", partial(_library, prose), lambda _: {"shelf": "new"}, 4),
        *(
            Workload(
                "agent",
                f"invoke, durability {durability}",
                agent,
                lambda _: {"messages": [HumanMessage(prose.text())]},
                5 if quick else 20,
                same_thread=False,
                durability=durability,
            )
            for durability in durabilities
        ),
    )


# Running them


def run(results: Results, backend: Backend) -> None:
    with all_of(backend) as (server, contenders):
        results.servers[backend.name] = server.version
        for workload in _workloads(results.quick):
            results.progress(f"{backend.name}: {workload.name}, {workload.operation}")
            _measure(results, backend, contenders, workload)
        results.progress(f"{backend.name}: resuming after an interrupt")
        _resume(results, backend, contenders)


def _measure(results: Results, backend: Backend, contenders: Sequence[Contender], workload: Workload) -> None:
    graphs = {one.side.name: workload.build(one.saver) for one in contenders}
    graphs[MEMORY] = workload.build(InMemorySaver())
    timings = {name: Timings() for name in graphs}
    for number in range(workload.calls + 1):
        for name, graph in graphs.items():
            settled(backend)
            call = partial(_invoke, graph, workload, f"timed {workload.operation}", number)
            if number:
                timings[name].time(call)
            else:
                call()  # makes the state that the others change
    for one in contenders:
        graph = workload.build(one.counted)
        thread = f"counted {workload.operation}"
        _invoke(graph, workload, thread, 0)
        before_at_rest = one.storage.at_rest()
        total = sum((one.count(partial(_invoke, graph, workload, thread, number)) for number in (1, 2)), start=NOTHING)
        results.add(
            workload=workload.name,
            backend=backend.name,
            side=one.side.name,
            operation=workload.operation,
            at_rest=(one.storage.at_rest() - before_at_rest) // 2,
            **timed(timings[one.side.name]),
            **said(total, 2),
        )
    results.add(
        workload=workload.name,
        backend=backend.name,
        side=MEMORY,
        operation=workload.operation,
        **timed(timings[MEMORY]),
    )


def _invoke(graph: Any, workload: Workload, thread: str, number: int) -> Any:
    config = latest(f"{workload.name} {thread}" if workload.same_thread else f"{workload.name} {thread} {number}")
    return graph.invoke(workload.inputs(number), config, durability=workload.durability)


def _resume(results: Results, backend: Backend, contenders: Sequence[Contender]) -> None:
    """Ask on several threads, then answer through a saver that has not seen them, as another process would."""
    prose = Prose(3)
    asked = 5 if results.quick else 20
    given = {"messages": [HumanMessage(prose.text()) for _ in range(50)]}
    for one in contenders:
        graph = _question(prose, one.saver)
        for number in range(asked + 2):
            graph.invoke(given, latest(f"asked {number}"), durability="sync")
    with ExitStack() as stack:
        graphs = [
            (one, _question(prose, stack.enter_context(one.side.open(one.storage.url))), Timings())
            for one in contenders
        ]
        for number in range(asked):
            for one, graph, timings in graphs:
                settled(backend)
                answer = partial(graph.invoke, Command(resume="yes"), latest(f"asked {number}"), durability="sync")
                state = timings.time(answer) if number else answer()  # the first one connects
                if len(state["messages"]) != 52:
                    raise RuntimeError(f"{one.side.name} resumed with {len(state['messages'])} messages instead of 52")
    for one, _, timings in graphs:
        counted = _question(prose, one.counted)
        answers = [
            partial(counted.invoke, Command(resume="yes"), latest(f"asked {number}"), durability="sync")
            for number in (asked, asked + 1)
        ]
        total = sum((one.count(answer) for answer in answers), start=NOTHING)
        results.add(
            workload="resume",
            backend=backend.name,
            side=one.side.name,
            operation="answer to end",
            **timed(timings),
            **said(total, 2),
        )
