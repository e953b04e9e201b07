"""What README.md and the pages of docs/ say in words is true."""

from __future__ import annotations

import operator
import sqlite3
import sys
import types
from collections import defaultdict
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import UUID

import numpy as np
import pydantic
import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from checkpoint_base import CheckpointSaver, ExactSerializer, SerializationError, SQLiteSaver, open_saver
from tests.test_docs import ROOT, Refund, blocks, python


def graph_that_asks(saver: CheckpointSaver, **compiled: Any) -> Any:
    builder: Any = StateGraph(Refund)
    builder.add_node("ask", lambda state: {"approved": interrupt(f"Refund {state['amount']}?")})
    builder.add_node("pay", lambda state: {"amount": 0})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "pay")
    return builder.compile(checkpointer=saver, **compiled)


THREAD: Any = {"configurable": {"thread_id": "1"}}


@pytest.mark.parametrize(
    ("named", "is_stored"),
    [
        ({"run_id": UUID(int=1)}, False),
        ({"metadata": {"run_id": str(UUID(int=1))}}, True),
        ({"configurable": {"thread_id": "1", "run_id": str(UUID(int=1))}}, True),
    ],
    ids=["run_id", "metadata", "configurable"],
)
def test_a_run_is_removed_by_an_id_that_its_metadata_has(
    named: dict[str, Any], is_stored: bool, tmp_path: Path
) -> None:
    with SQLiteSaver(tmp_path / "a.db") as saver:
        graph_that_asks(saver).invoke({"amount": 1}, {**THREAD, **named})
        saver.delete_for_runs([str(UUID(int=1))])
        assert list(saver.threads()) == [] if is_stored else len(list(saver.history(THREAD))) == 2


def test_the_program_that_removes_idle_threads_passes_by_what_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SQLiteSaver("app.db") as saver:
        for thread_id in ("damaged", "idle", "waits", "new"):
            config: Any = {"configurable": {"thread_id": thread_id}}
            graph = graph_that_asks(saver)
            graph.invoke({"amount": 1}, config)
            if thread_id != "waits":
                graph.invoke(Command(resume=True), config)
        with closing(sqlite3.connect("app.db")) as db, db:
            db.execute("UPDATE threads SET updated_at = 1 WHERE thread_id <> 'new'")
            db.execute("UPDATE threads SET updated_at = -5 WHERE thread_id = 'damaged'")
        (program,) = (each.text for each in blocks(ROOT / "docs" / "operating.md") if "limit = datetime" in each.text)
        exec(program, {"open_saver": open_saver})
        assert {each.thread_id for each in saver.threads()} == {"damaged", "waits", "new"}


def test_what_a_run_wrote_to_the_checkpoint_before_it_outlives_it(tmp_path: Path) -> None:
    with SQLiteSaver(tmp_path / "a.db") as saver:
        graph = graph_that_asks(saver)
        graph.invoke({"amount": 1}, THREAD | {"metadata": {"run_id": "1"}})
        graph.invoke(Command(resume="by ann"), THREAD | {"metadata": {"run_id": "2"}})
        saver.delete_for_runs(["2"])
        assert {each.metadata["run_id"] for each in saver.history(THREAD)} == {"1"}
        assert list(saver.interrupts()) == []
        assert graph.invoke(None, THREAD)["approved"] == "by ann"
        saver.delete_thread("1")
        assert graph.get_state(THREAD).values == {}


@pytest.mark.parametrize("where", ["interrupt_before", "interrupt_after"])
def test_only_its_graph_knows_that_a_thread_waits_at_a_static_breakpoint(where: str, tmp_path: Path) -> None:
    at = {"interrupt_before": "pay", "interrupt_after": "ask"}[where]
    with SQLiteSaver(tmp_path / "a.db") as saver:
        graph = graph_that_asks(saver, **{where: [at]})
        graph.invoke({"amount": 1}, THREAD)
        assert [each.pending_interrupts for each in saver.threads()] == [1]
        graph.invoke(Command(resume=True), THREAD)
        assert graph.get_state(THREAD).next == ("pay",)
        assert [each.pending_interrupts for each in saver.threads()] == [0]
        assert list(saver.interrupts()) == []


class Asked(TypedDict, total=False):
    answers: Any


def two_questions(state: Asked) -> Asked:
    return {"answers": [interrupt("first"), interrupt("second")]}


@pytest.mark.parametrize("by_id", [True, False])
def test_an_answer_without_an_id_may_be_given_to_another_question(by_id: bool) -> None:
    with open_saver("sqlite://") as saver:
        graph = StateGraph(Asked).add_node(two_questions).add_edge(START, "two_questions").compile(checkpointer=saver)
        graph.invoke({}, THREAD)
        (first,) = saver.interrupts()
        graph.invoke(Command(resume={first.interrupt_id: "yes"} if by_id else "yes"), THREAD)
        graph.invoke(None, THREAD)
        assert graph.get_state(THREAD).values.get("answers") == (None if by_id else ["yes", "yes"])
        assert [each.value for each in saver.interrupts()] == (["second"] if by_id else [])


def test_whoever_cannot_read_a_question_cannot_answer_it_by_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Order(pydantic.BaseModel):
        amount: int

    builder: Any = StateGraph(Refund)
    builder.add_node("ask", lambda state: {"approved": interrupt(Order(amount=state["amount"]))})
    builder.add_edge(START, "ask")
    Order.__module__, Order.__qualname__ = "orders", "Order"
    with SQLiteSaver(tmp_path / "a.db") as saver:
        graph = builder.compile(checkpointer=saver)
        monkeypatch.setitem(sys.modules, "orders", types.SimpleNamespace(Order=Order))
        graph.invoke({"amount": 1}, THREAD)
        monkeypatch.delitem(sys.modules, "orders")
        [waiting] = saver.interrupts()
        assert "orders" in str(waiting.error)
        monkeypatch.setitem(sys.modules, "orders", types.SimpleNamespace(Order=Order))
        with pytest.raises(TypeError):  # with any other text than an id, the node would take the whole for its answer
            graph.invoke(Command(resume={waiting.interrupt_id: False}), THREAD)
        assert [each.value for each in saver.interrupts()] == [Order(amount=1)]
        assert "approved" not in graph.get_state(THREAD).values


@pytest.mark.parametrize("answer", [None, {}])
def test_an_empty_answer_needs_an_id(answer: Any) -> None:
    with open_saver("sqlite://") as saver:
        graph = graph_that_asks(saver)
        graph.invoke({"amount": 1}, THREAD)
        with suppress(UnboundLocalError):
            graph.invoke(Command(resume=answer), THREAD)
        (waiting,) = saver.interrupts()
        graph.invoke(Command(resume={waiting.interrupt_id: answer}), THREAD)
        assert graph.get_state(THREAD).values["approved"] == answer


def test_what_a_node_changes_in_place_is_not_stored() -> None:
    def change(state: Asked) -> Asked:
        state["answers"].append("changed")
        return {}

    with open_saver("sqlite://") as saver:
        graph = StateGraph(Asked).add_node(change).add_edge(START, "change").compile(checkpointer=saver)
        assert graph.invoke({"answers": []}, THREAD, durability="sync") == {"answers": ["changed"]}
        assert graph.get_state(THREAD).values == {"answers": []}


def test_steps_before_the_recursion_limit_are_stored() -> None:
    builder = StateGraph(Asked).add_node("count", lambda state: {"answers": state["answers"] + 1})
    builder.add_edge(START, "count")
    builder.add_conditional_edges("count", lambda state: "count" if state["answers"] < 8 else END)
    with open_saver("sqlite://") as saver:
        graph = builder.compile(checkpointer=saver)
        with pytest.raises(GraphRecursionError):
            graph.invoke({"answers": 0}, {**THREAD, "recursion_limit": 5})
        assert graph.invoke(None, {**THREAD, "recursion_limit": 5})["answers"] == 8


def test_texts_numbers_and_booleans_of_metadata_and_configurable_are_stored_but_no_context() -> None:
    class Context(TypedDict):
        token: str

    def use(_: Asked, runtime: Runtime[Context]) -> Asked:
        return {"answers": len(runtime.context["token"])}

    kept, left = {"a": "text", "b": 1, "c": 1.5, "d": True}, {"e": [1], "f": {"g": 1}, "h": UUID(int=1), "i": None}
    with open_saver("sqlite://") as saver:
        builder = StateGraph(Asked, context_schema=Context).add_node(use).add_edge(START, "use")
        graph = builder.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "1", "key": "k", "id": UUID(int=1)}, "metadata": kept | left}
        graph.invoke({}, config, context={"token": "secret"})
        stored = list(saver.list(THREAD))
    assert {*stored[0].metadata} == {"source", "step", "parents", *kept, "key"}
    assert "secret" not in repr(stored)


def test_a_thread_that_stopped_before_a_node_that_is_deferred_since_cannot_be_continued() -> None:
    def compiled(saver: CheckpointSaver, *, defer: bool) -> Any:
        builder = StateGraph(Asked).add_node("one", lambda _: {"answers": 1})
        builder.add_node("two", lambda _: {"answers": 2}, defer=defer)
        builder.add_edge(START, "one").add_edge("one", "two")
        return builder.compile(checkpointer=saver, interrupt_before=["two"])

    with open_saver("sqlite://") as saver:
        compiled(saver, defer=False).invoke({}, THREAD)
        with pytest.raises(TypeError):
            compiled(saver, defer=True).invoke(None, THREAD)
        assert compiled(saver, defer=False).invoke(None, THREAD) == {"answers": 2}


def joined(so_far: list[int], writes: list[list[int]]) -> list[int]:
    return sum(writes, so_far or [])


class Ordinary(TypedDict):
    said: Annotated[list[int], operator.add]


class Delta(TypedDict):
    said: Annotated[list[int], DeltaChannel(joined)]


def test_a_key_that_became_a_delta_channel_keeps_its_value() -> None:
    with open_saver("sqlite://") as saver:
        for schema, number in ((Ordinary, 1), (Delta, 2), (Delta, 3)):
            builder: Any = StateGraph(schema).add_node("say", lambda _: {"said": [0]}).add_edge(START, "say")
            graph = builder.compile(checkpointer=saver)
            graph.invoke({"said": [number]}, THREAD)
        assert graph.get_state(THREAD).values == {"said": [1, 0, 2, 0, 3, 0]}


STRICTNESS = """
import os
from shop import Answer, Order, State
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from checkpoint_base import ExactSerializer, open_saver

def ask(state):
    interrupt(Order(3))

def see(state):
    print(type(state["order"]).__name__, type(state["other"]).__name__)

builder = StateGraph(State)
builder.add_node("ask", ask)
builder.add_node("see", see)
builder.add_edge(START, "ask")
builder.add_edge("ask", "see")
config = {"configurable": {"thread_id": "1"}}
options = {"strict": {"strict": True}, "allowed": {"serde": ExactSerializer(allowed=[Answer])}}
with open_saver("sqlite:///a.db", **options.get(os.environ["OPENED"], {})) as saver:
    graph = builder.compile(checkpointer=saver)
    graph.invoke({"order": Order(1), "other": Answer(2)}, config)
    print(type(next(saver.interrupts()).value).__name__)
    graph.invoke(Command(resume=1), config)
"""
SHOP = """
from dataclasses import dataclass
from typing import Any, TypedDict

@dataclass
class Order:
    number: int

@dataclass
class Answer:
    number: int

class State(TypedDict, total=False):
    order: Order
    other: Any
"""


@pytest.mark.parametrize(
    ("variable", "opened", "expected"),
    [
        ("false", "plainly", ["Order", "Order Answer"]),
        ("true", "plainly", ["dict", "Order dict"]),
        ("true", "strict", ["dict", "Order dict"]),
        ("true", "allowed", ["dict", "Order Answer"]),
        ("false", "strict", ["dict", "dict dict"]),
        ("false", "allowed", ["dict", "dict Answer"]),
    ],
)
def test_what_nodes_get_with_each_kind_of_strictness(
    variable: str, opened: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    (tmp_path / "program.py").write_text(STRICTNESS, encoding="utf-8")
    ran = python("program.py", folder=tmp_path, LANGGRAPH_STRICT_MSGPACK=variable, OPENED=opened)
    assert (ran.returncode, ran.stdout.split("\n")[:-1]) == (0, expected), ran.stderr


def of_a_class_in_a_function() -> Any:
    class Local(pydantic.BaseModel):
        n: int

    return Local(n=1)


class AtModuleLevel(pydantic.BaseModel):
    n: int


CHANGED: dict[str, tuple[Any, Any, list[Any]]] = {
    "exception": (ValueError("x"), "ValueError('x')", [str(ValueError("x"))]),
    "class in a function": (of_a_class_in_a_function(), {"n": 1}, [{"n": 1}, AtModuleLevel(n=1)]),
    "create_model": (pydantic.create_model("Made", n=(int, ...))(n=1), {"n": 1}, [{"n": 1}]),
    "defaultdict": (defaultdict(lambda: 0, a=1), {"a": 1}, [{"a": 1}, defaultdict(int, a=1)]),
    "numpy text": (np.str_("a"), "a", [np.str_("a").item()]),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_langgraph_s_serializer_changes_is_refused_and_what_to_store_instead_is_kept(name: str) -> None:
    value, changed, instead = CHANGED[name]
    stock, ours = JsonPlusSerializer(), ExactSerializer()
    found = stock.loads_typed(stock.dumps_typed(value))
    assert (type(found), found) == (type(changed), changed)
    with pytest.raises(SerializationError):
        ours.dumps_typed(value)
    for each in instead:
        found = ours.loads_typed(ours.dumps_typed(each))
        assert (type(found), found) == (type(each), each)


def test_who_used_the_fallback_to_pickle_can_go_on_with_it(tmp_path: Path) -> None:
    value = slice(3)  # which ExactSerializer refuses
    serde = JsonPlusSerializer(pickle_fallback=True)
    with SQLiteSaver(tmp_path / "a.db", serde=serde) as saver, SQLiteSaver(tmp_path / "a.db", serde=serde) as reader:
        graph_that_asks(saver).invoke({"amount": value}, THREAD)
        assert [each.value for each in reader.interrupts()] == ["Refund slice(None, 3, None)?"]
        assert graph_that_asks(reader).get_state(THREAD).values == {"amount": value}
        assert graph_that_asks(reader).invoke(Command(resume=True), THREAD) == {"amount": 0, "approved": True}
