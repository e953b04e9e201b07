"""Real LangGraph graphs for the cases: small, with plain sync nodes that count how often they finished.

A node counts itself when it has received every answer and returns, so a count of two means that finished work was done
again. Build a graph for each handle; graphs that are built in the same way continue each other's threads.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias, TypedDict

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

Graph: TypeAlias = Any
"""A compiled graph."""

Builder: TypeAlias = Any
"""A `StateGraph`, whose overloads refuse nodes of loose types."""

Saver: TypeAlias = BaseCheckpointSaver[Any]
Runs: TypeAlias = Counter[str]
Node: TypeAlias = Callable[[Any], Any]
Build: TypeAlias = Callable[[Saver, Runs], Graph]

LONG = 5000
"""A ``snapshot_frequency`` that no test reaches, so that everything is rebuilt from writes."""


class Log(TypedDict, total=False):
    """What nodes did, in order."""

    log: Annotated[list[Any], operator.add]


class Draft(TypedDict, total=False):
    """A subgraph's state: ``draft`` is its own, ``log`` it shares with its parent."""

    draft: str
    log: Annotated[list[Any], operator.add]


def says(runs: Runs, name: str) -> Node:
    """A node that logs its name."""

    def node(_: Any) -> dict[str, Any]:
        runs[name] += 1
        return {"log": [name]}

    return node


def asks(runs: Runs, name: str, *questions: str) -> Node:
    """A node that asks its questions one after the other, and logs its name with the answers, which are texts."""

    def node(_: Any) -> dict[str, Any]:
        answers = [interrupt(question) for question in questions]
        runs[name] += 1
        return {"log": [" ".join((name, *answers))]}

    return node


def sequence(state: Any, nodes: dict[str, Any]) -> Builder:
    """A graph whose nodes run one after the other."""
    graph: Builder = StateGraph(state)
    previous = START
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(previous, name)
        previous = name
    return graph


def parallel(state: Any, nodes: dict[str, Any], then: Node | None = None) -> Builder:
    """A graph whose nodes run in one super-step; ``then`` runs as ``end`` after all of them."""
    graph: Builder = StateGraph(state)
    for name, node in nodes.items():
        graph.add_node(name, node)
        graph.add_edge(START, name)
    if then is not None:
        graph.add_node("end", then)
        graph.add_edge(list(nodes), "end")
    return graph


# Graphs that ask


def one_question(saver: Saver, runs: Runs) -> Graph:
    """``before``, ``ask``, ``after``."""
    nodes = {"before": says(runs, "before"), "ask": asks(runs, "ask", "go on?"), "after": says(runs, "after")}
    return sequence(Log, nodes).compile(checkpointer=saver)


def question_with_a_schema(saver: Saver, runs: Runs) -> Graph:
    """A question that says what an answer to it must be."""

    def ask(_: Any) -> dict[str, Any]:
        answer = interrupt("who?", response_schema={"type": "string", "minLength": 2})
        runs["ask"] += 1
        return {"log": [f"ask {answer}"]}

    return sequence(Log, {"ask": ask}).compile(checkpointer=saver)


def parallel_questions(saver: Saver, runs: Runs) -> Graph:
    """``a``, ``b`` and ``c`` ask, in parallel with ``done``, which does not; then ``end``."""
    nodes = {name: asks(runs, name, f"{name}?") for name in "abc"}
    return parallel(Log, {**nodes, "done": says(runs, "done")}, says(runs, "end")).compile(checkpointer=saver)


def several_questions(saver: Saver, runs: Runs) -> Graph:
    """One node with three questions, then ``after``."""
    nodes = {"ask": asks(runs, "ask", "first?", "second?", "third?"), "after": says(runs, "after")}
    return sequence(Log, nodes).compile(checkpointer=saver)


def two_nodes_with_several_questions(saver: Saver, runs: Runs) -> Graph:
    """``a`` and ``b`` with two questions each, in one super-step; then ``end``."""
    nodes = {name: asks(runs, name, f"{name}1?", f"{name}2?") for name in "ab"}
    return parallel(Log, nodes, says(runs, "end")).compile(checkpointer=saver)


def repeated_question(saver: Saver, runs: Runs) -> Graph:
    """A node that asks again in a new super-step until the answer is yes."""
    graph: Builder = StateGraph(Log)
    graph.add_node("ask", asks(runs, "ask", "yes?"))
    graph.add_edge(START, "ask")
    graph.add_conditional_edges("ask", lambda state: END if state["log"][-1] == "ask yes" else "ask", ["ask", END])
    return graph.compile(checkpointer=saver)


def fanned_out_questions(saver: Saver, runs: Runs) -> Graph:
    """``plan`` sends three items to ``ask``; then ``end``."""

    def ask(item: int) -> dict[str, Any]:
        answer = interrupt(f"{item}?")
        runs[f"ask {item}"] += 1
        return {"log": [f"{item} {answer}"]}

    graph: Builder = StateGraph(Log)
    graph.add_node("plan", says(runs, "plan"))
    graph.add_node("ask", ask)
    graph.add_node("end", says(runs, "end"))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda _: [Send("ask", item) for item in range(3)], ["ask"])
    graph.add_edge("ask", "end")
    return graph.compile(checkpointer=saver)


def questions_and_an_error(saver: Saver, runs: Runs) -> Graph:
    """``ask`` and ``fail`` ask; ``fail`` raises after its first answer but not the next time; then ``end``.

    A task that asks at the moment when another task raises may be cancelled before its question is recorded. That
    cannot happen here, because both have asked before.
    """

    def fail(_: Any) -> dict[str, Any]:
        answer = interrupt("fail?")
        runs["attempts"] += 1
        if runs["attempts"] % 2:
            raise ArithmeticError("not yet")
        return {"log": [f"fail {answer}"]}

    nodes = {"ask": asks(runs, "ask", "ask?"), "fail": fail}
    return parallel(Log, nodes, says(runs, "end")).compile(checkpointer=saver)


def without_questions(saver: Saver, runs: Runs) -> Graph:
    """``one`` and ``two``, with a static breakpoint before and after ``one``."""
    nodes = {"one": says(runs, "one"), "two": says(runs, "two")}
    return sequence(Log, nodes).compile(checkpointer=saver, interrupt_before=["one"], interrupt_after=["one"])


def drafting_subgraph(runs: Runs) -> Builder:
    """``write`` makes a draft that only the subgraph knows; ``review`` asks about it."""

    def write(_: Any) -> dict[str, Any]:
        runs["write"] += 1
        return {"draft": "a draft"}

    def review(state: Draft) -> dict[str, Any]:
        answer = interrupt(f"{state['draft']}?")
        runs["review"] += 1
        return {"log": [f"{state['draft']}: {answer}"]}

    return sequence(Draft, {"write": write, "review": review})


def question_in_a_subgraph(saver: Saver, runs: Runs) -> Graph:
    """``before``, a subgraph that drafts and asks, ``after``."""
    nodes = {"before": says(runs, "before"), "sub": drafting_subgraph(runs).compile(), "after": says(runs, "after")}
    return sequence(Log, nodes).compile(checkpointer=saver)


def questions_in_a_subgraph_that_remembers(saver: Saver, runs: Runs) -> Graph:
    """A subgraph that keeps its answers between runs of the same thread, and asks how many it has."""

    class Known(TypedDict, total=False):
        known: Annotated[list[str], operator.add]

    def review(state: Known) -> Known:
        answer = interrupt(f"{len(state.get('known', ()))} before?")
        runs["review"] += 1
        return {"known": [answer]}

    own = sequence(Known, {"review": review}).compile(checkpointer=True)
    return sequence(Log, {"sub": own}).compile(checkpointer=saver)


def question_within_a_subgraph_that_remembers(saver: Saver, runs: Runs) -> Graph:
    """``before``, then a subgraph that remembers, and calls one that does not: that one has a ``note`` and asks."""
    inner = sequence(Log, {"note": says(runs, "note"), "ask": asks(runs, "ask", "go on?")}).compile()
    remembers = sequence(Log, {"inner": inner}).compile(checkpointer=True)
    return sequence(Log, {"before": says(runs, "before"), "sub": remembers}).compile(checkpointer=saver)


def parallel_questions_in_a_subgraph(saver: Saver, runs: Runs) -> Graph:
    """A subgraph whose ``a`` and ``b`` ask in parallel with each other and with the root's ``c``; then ``end``."""
    inner = parallel(Log, {name: asks(runs, name, f"{name}?") for name in "ab"}).compile()
    return parallel(Log, {"sub": inner, "c": asks(runs, "c", "c?")}, says(runs, "end")).compile(checkpointer=saver)


def questions_in_nested_subgraphs(saver: Saver, runs: Runs) -> Graph:
    """Three levels. The lower two each have a question, and ask in parallel."""
    deepest = sequence(Log, {"note": says(runs, "note"), "deep": asks(runs, "deep", "deep?")}).compile()
    middle = parallel(Log, {"sub": deepest, "middle": asks(runs, "middle", "middle?")}).compile()
    nodes = {"before": says(runs, "before"), "sub": middle, "after": says(runs, "after")}
    return sequence(Log, nodes).compile(checkpointer=saver)


def questions_of_fanned_out_subgraphs(saver: Saver, runs: Runs) -> Graph:
    """One subgraph that runs twice in a super-step, each time with a question of its own."""

    class Item(TypedDict):
        item: int
        log: Annotated[list[Any], operator.add]

    def ask(state: Item) -> dict[str, Any]:
        answer = interrupt(f"{state['item']}?")
        runs[f"ask {state['item']}"] += 1
        return {"log": [f"{state['item']} {answer}"]}

    def note(state: Item) -> dict[str, Any]:
        runs[f"note {state['item']}"] += 1
        return {}

    graph: Builder = StateGraph(Log)
    graph.add_node("sub", sequence(Item, {"note": note, "ask": ask}).compile())
    graph.add_conditional_edges(START, lambda _: [Send("sub", {"item": item}) for item in range(2)], ["sub"])
    return graph.compile(checkpointer=saver)


def question_of_a_graph_in_a_node(saver: Saver, runs: Runs) -> Graph:
    """A node that invokes another graph itself, and then asks as well."""
    inner = drafting_subgraph(runs).compile()

    def outer(_: Any) -> dict[str, Any]:
        found = inner.invoke({"log": []})
        answer = interrupt("outer?")
        runs["outer"] += 1
        return {"log": [*found["log"], answer]}

    return sequence(Log, {"outer": outer}).compile(checkpointer=saver)


# The functional API


def flow_in_sequence(saver: Saver, runs: Runs) -> Graph:
    """A task that only works, two that ask one after the other, and a question of the flow's own."""
    work, ask = _tasks(runs)

    @entrypoint(checkpointer=saver)
    def flow(value: Any) -> list[Any]:
        done = work(value).result()
        first = ask("first?").result()
        second = ask("second?").result()
        own = interrupt("own?")
        runs["flow"] += 1
        return [done, first, second, own]

    return flow


def flow_that_gathers(saver: Saver, runs: Runs) -> Graph:
    """Two tasks that ask, in parallel with a task that works and a question of the flow's own."""
    work, ask = _tasks(runs)

    @entrypoint(checkpointer=saver)
    def flow(value: Any) -> list[Any]:
        futures = [work(value), ask("a?"), ask("b?")]
        own = interrupt("own?")
        results = [future.result() for future in futures]
        runs["flow"] += 1
        return [*results, own]

    return flow


def flow_that_waits_for_its_tasks(saver: Saver, runs: Runs) -> Graph:
    """Three tasks that ask at once, and nothing of the flow's own."""
    work, ask = _tasks(runs)

    @entrypoint(checkpointer=saver)
    def flow(value: Any) -> list[Any]:
        futures = [work(value), *(ask(f"{name}?") for name in "abc")]
        results = [future.result() for future in futures]
        runs["flow"] += 1
        return results

    return flow


def flow_with_nested_tasks(saver: Saver, runs: Runs) -> Graph:
    """Two parallel tasks, each of which calls a task that works and a task that asks."""
    work, ask = _tasks(runs)

    @task
    def outer(name: str) -> list[Any]:
        found = [work(name).result(), ask(f"{name}?").result()]
        runs[f"outer {name}"] += 1
        return found

    @entrypoint(checkpointer=saver)
    def flow(_: Any) -> list[Any]:
        results = [future.result() for future in [outer("a"), outer("b")]]
        runs["flow"] += 1
        return results

    return flow


def tasks_in_a_node(saver: Saver, runs: Runs) -> Graph:
    """A node that calls tasks that ask, in parallel with a node that asks itself."""
    work, ask = _tasks(runs)

    def calls(_: Any) -> dict[str, Any]:
        futures = [work(0), ask("a?"), ask("b?")]
        results = [future.result() for future in futures]
        runs["calls"] += 1
        return {"log": [results]}

    return parallel(Log, {"calls": calls, "c": asks(runs, "c", "c?")}, says(runs, "end")).compile(checkpointer=saver)


def tasks_in_a_subgraph(saver: Saver, runs: Runs) -> Graph:
    """A subgraph whose node calls tasks that ask."""
    _, ask = _tasks(runs)

    def calls(_: Any) -> dict[str, Any]:
        futures = [ask("a?"), ask("b?")]
        results = [future.result() for future in futures]
        runs["calls"] += 1
        return {"log": [results]}

    return sequence(Log, {"sub": sequence(Log, {"calls": calls}).compile()}).compile(checkpointer=saver)


def _tasks(runs: Runs) -> tuple[Any, Any]:
    """A task that works and one that asks. Each counts itself when it has its result."""

    @task
    def work(value: Any) -> Any:
        runs[f"work {value}"] += 1
        return value

    @task
    def ask(question: str) -> Any:
        answer = interrupt(question)
        runs[f"ask {question}"] += 1
        return answer

    return work, ask


# Delta channels


def joined(state: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    """A reducer that depends on the order of the writes."""
    return [*state, *(item for write in writes for item in write)]


def delta_state(snapshot_frequency: int) -> Any:
    """A state with the same list in two channels: ``delta`` is a `DeltaChannel`, ``plain`` stores its value."""
    channel = DeltaChannel(joined, list, snapshot_frequency=snapshot_frequency)
    return TypedDict(  # type: ignore[operator]  # the annotations depend on the argument
        "DeltaState",
        {"delta": Annotated[list[Any], channel], "plain": Annotated[list[Any], operator.add], "count": int},
        total=False,
    )


def adds(name: str, *questions: str) -> Node:
    """A node that adds its name, with a number, to both lists when it has its answers."""

    def node(state: Any) -> dict[str, Any]:
        answers = [interrupt(question) for question in questions]
        item = " ".join((name, str(len(state.get("plain", ()))), *answers))
        return {"delta": [item], "plain": [item]}

    return node


def delta_graph(saver: Saver, snapshot_frequency: int, *questions: str) -> Graph:
    """``first``; then ``z``, ``m`` and ``a`` at once, of which ``m`` asks; then ``last``, which changes no list."""

    def last(state: Any) -> dict[str, Any]:
        return {"count": len(state["plain"])}

    graph: Builder = StateGraph(delta_state(snapshot_frequency))
    graph.add_node("first", adds("first"))
    graph.add_edge(START, "first")
    for name in "zma":
        graph.add_node(name, adds(name, *(questions if name == "m" else ())))
        graph.add_edge("first", name)
    graph.add_node("last", last)
    graph.add_edge(["z", "m", "a"], "last")
    return graph.compile(checkpointer=saver)


def delta_subgraph(saver: Saver, snapshot_frequency: int) -> Graph:
    """A subgraph with lists of its own, which it keeps between runs, and a question between its steps."""
    nodes = {"one": adds("one"), "two": adds("two", "go on?"), "three": adds("three")}
    own = sequence(delta_state(snapshot_frequency), nodes).compile(checkpointer=True)
    return sequence(delta_state(snapshot_frequency), {"before": adds("before"), "sub": own}).compile(checkpointer=saver)


def both(*items: Any) -> dict[str, Any]:
    """Input, or an update, that adds the same items to both lists."""
    return {"delta": list(items), "plain": list(items)}
