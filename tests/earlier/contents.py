"""What the stores hold. It may be added to, but what is here stays as it is: the stores hold it already."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.messages import HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from checkpoint_base import CheckpointSaver, open_saver
from tests.exactness import exact
from tests.test_serializer import VALUES

HOSTILE = "käse/../%00 *{1}:\n'\""
"""A thread's id."""

FILTER = {"user": "ä'\"", "score": 2**40}


def config_of(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


# Graphs that wait


class Log(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def _says(text: str) -> Any:
    return lambda _: {"log": [text]}


def _asks(question: str) -> Any:
    return lambda _: {"log": [f"{question} {interrupt(question)}"]}


def parallel(saver: CheckpointSaver | None) -> Any:
    """A subgraph that asks after its first step, in parallel with two tasks that ask and one that does not."""
    inner: Any = StateGraph(Log)
    inner.add_sequence([("note", _says("noted")), ("ask", _asks("deep?"))]).add_edge(START, "note")
    graph: Any = StateGraph(Log)
    graph.add_node("sub", inner.compile())
    graph.add_node("say", _says("said"))
    graph.add_node("ask", lambda item: {"log": [f"{item} {interrupt(item)}"]})
    graph.add_conditional_edges(START, lambda _: ["sub", "say", Send("ask", "one?"), Send("ask", "two?")])
    graph.add_node("end", _says("end"))
    graph.add_edge(["sub", "say", "ask"], "end")
    return graph.compile(checkpointer=saver)


def _joined(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(item for write in writes for item in write)]


class Delta(TypedDict, total=False):
    log: Annotated[list[str], DeltaChannel(_joined, list, snapshot_frequency=1000)]


def delta(saver: CheckpointSaver) -> Any:
    """Its log is rebuilt from the writes of all its checkpoints."""
    graph: Any = StateGraph(Delta)
    graph.add_sequence([("first", _says("first")), ("ask", _asks("go on?"))])
    graph.add_edge(START, "first")
    graph.add_edge("ask", END)
    return graph.compile(checkpointer=saver)


# Values


def chat(turn: int) -> list[HumanMessage]:
    """Some 300 KB in the end, so that a value has several levels of chunks."""
    return [HumanMessage(" ".join(f"{n} {word}" for word in range(400)), id=str(n)) for n in range(turn * 12)]


TURNS = 10


def _put(saver: CheckpointSaver, values: Mapping[str, Any], config: Any, **metadata: Any) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions = dict.fromkeys(values, saver.get_next_version(None, None))
    if "messages" in values:
        versions["messages"] = f"{len(values['messages']):032}.0"
    checkpoint.update(channel_values={**values}, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)  # type: ignore[typeddict-unknown-key]


def _values_of(saver: CheckpointSaver, thread_id: str) -> Any:
    found = saver.get_tuple(config_of(thread_id))
    assert found is not None
    return found.checkpoint["channel_values"]


def _encrypting(url: str) -> CheckpointSaver:
    return open_saver(url, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"))


def _chats(url: str) -> Iterator[tuple[str, CheckpointSaver, Sequence[int]]]:
    """Each way to store a chat: the thread that it is in, a saver, and its turns."""
    yield "chat", open_saver(url), range(1, TURNS + 1)
    yield "compressed", open_saver(url, compression="zstd"), range(1, TURNS + 1)
    yield "encrypted", _encrypting(url), range(1, 2)  # each turn is stored whole


def write(url: str) -> None:
    """Fill an empty store."""
    for thread_id, saver, turns in _chats(url):
        with saver:
            config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
            for turn in turns:
                config = _put(saver, {"messages": chat(turn), "never changes": "x" * 3000}, config, step=turn)
                saver.put_writes(config, [("messages", chat(1)[-1]), ("short", turn)], f"task {turn}", "~a, b")
    with open_saver(url) as saver:
        _put(saver, VALUES, {"configurable": {"thread_id": "values", "checkpoint_ns": ""}})
        _put(saver, {"a": 1}, {"configurable": {"thread_id": HOSTILE, "checkpoint_ns": ""}}, **FILTER)
        parallel(saver).invoke({"log": ["in"]}, config_of("parallel"))
        (two,) = [each for each in saver.interrupts() if each.value == "two?"]
        parallel(saver).invoke(Command(resume={two.interrupt_id: "early"}), config_of("parallel"))
        for thread_id in ("delta", "pruned"):
            delta(saver).invoke({"log": ["in"]}, config_of(thread_id))
        saver.prune(["pruned"])
        parallel(saver).invoke({"log": ["in"]}, config_of("copied"))
        saver.copy_thread("copied", "copy")
        for thread_id in ("copied", "deleted"):
            _put(saver, {"a": 1}, {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
            saver.delete_thread(thread_id)


def assert_all_is_there(url: str) -> None:
    """Read all of it, then answer what waits."""
    for thread_id, saver, turns in _chats(url):
        with saver:
            for found, turn in zip(saver.list(config_of(thread_id)), reversed(turns), strict=True):
                assert found.checkpoint["channel_values"] == {"messages": chat(turn), "never changes": "x" * 3000}
                assert found.pending_writes == [
                    (f"task {turn}", "messages", chat(1)[-1]),
                    (f"task {turn}", "short", turn),
                ]
    with open_saver(url) as saver:
        values = _values_of(saver, "values")
        for name in values:
            assert exact(values[name]) == exact(VALUES[name]), name
        (found,) = saver.list(None, filter=FILTER)
        assert found.config["configurable"]["thread_id"] == HOSTILE
        assert _values_of(saver, HOSTILE) == {"a": 1}
        assert {each.thread_id: each.pending_interrupts for each in saver.threads()} == {
            **dict.fromkeys(["chat", "compressed", "encrypted", "values", HOSTILE], 0),
            **{"parallel": 2, "copy": 3, "delta": 1, "pruned": 1},
        }
        assert sorted((each.thread_id, each.value) for each in saver.interrupts()) == [
            ("copy", "deep?"),
            ("copy", "one?"),
            ("copy", "two?"),
            ("delta", "go on?"),
            ("parallel", "deep?"),
            ("parallel", "one?"),
            ("pruned", "go on?"),
        ]
        for thread_id, early in (("parallel", "early"), ("copy", "late")):
            answers = {each.interrupt_id: "late" for each in saver.interrupts(thread_id=thread_id)}
            done = parallel(saver).invoke(Command(resume=answers), config_of(thread_id))
            assert done["log"] == ["in", "said", "in", "noted", "deep? late", "one? late", f"two? {early}", "end"]
        for thread_id in ("delta", "pruned"):
            done = delta(saver).invoke(Command(resume="yes"), config_of(thread_id))
            assert done["log"] == ["in", "first", "go on? yes"]
        assert list(saver.interrupts()) == []


def assert_it_is_maintained(url: str) -> None:
    """Remove and copy what is there."""
    with open_saver(url) as saver:
        before = _values_of(saver, "compressed")
        saver.copy_thread("compressed", "copy of compressed")
        saver.prune(["compressed", "delta"])
        for thread_id in ("chat", "parallel", "pruned"):
            saver.delete_thread(thread_id)
        assert _values_of(saver, "compressed") == _values_of(saver, "copy of compressed") == before
        assert len(list(saver.list(config_of("compressed")))) == 1
        assert delta(saver).get_state(config_of("delta")).values["log"] == ["in", "first", "go on? yes"]
        assert {each.thread_id for each in saver.threads()} == {
            *("compressed", "copy of compressed", "encrypted", "values", HOSTILE, "copy", "delta")
        }
