"""The calls that real graphs make to a saver, recorded once and replayed on every saver."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages

from checkpoint_base import CheckpointSaver

PROFILE_BYTES = 20_000
"""The size of the chat's channel that never changes."""


@dataclass(frozen=True, slots=True)
class Put:
    """A call of `put`; ``kind`` is "put" if it has a new version of the growing channel, else "put, nothing new"."""

    checkpoint: Any
    metadata: Any
    new_versions: Any
    parent_id: str | None
    kind: str

    def replay(self, saver: Any, thread_id: str) -> None:
        saver.put(_config(thread_id, self.parent_id), self.checkpoint, self.metadata, self.new_versions)

    async def areplay(self, saver: Any, thread_id: str) -> None:
        await saver.aput(_config(thread_id, self.parent_id), self.checkpoint, self.metadata, self.new_versions)


@dataclass(frozen=True, slots=True)
class PutWrites:
    """A call of `put_writes`."""

    checkpoint_id: str
    writes: Sequence[tuple[str, Any]]
    task_id: str
    task_path: str
    kind: str = "put_writes"

    def replay(self, saver: Any, thread_id: str) -> None:
        saver.put_writes(_config(thread_id, self.checkpoint_id), self.writes, self.task_id, self.task_path)

    async def areplay(self, saver: Any, thread_id: str) -> None:
        await saver.aput_writes(_config(thread_id, self.checkpoint_id), self.writes, self.task_id, self.task_path)


@dataclass(frozen=True, slots=True)
class Turn:
    """The writing calls of one `invoke`, in order, and the number of messages in the chat after it."""

    calls: tuple[Put | PutWrites, ...]
    messages: int


def latest(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def _place(call: Put | PutWrites) -> tuple[str, bool]:
    """Writes follow their checkpoint. LangGraph calls from several threads, and the order is not always the same."""
    if isinstance(call, Put):
        return (call.checkpoint["id"], False)
    return (call.checkpoint_id, True)


def _config(thread_id: str, checkpoint_id: str | None) -> Any:
    config = latest(thread_id)
    if checkpoint_id:
        config["configurable"]["checkpoint_id"] = checkpoint_id
    return config


class Recorder(BaseCheckpointSaver[str]):
    """A saver that records all calls, and keeps only the latest checkpoint of its one thread."""

    get_next_version = CheckpointSaver.get_next_version

    def __init__(self, grows: str) -> None:
        super().__init__()
        self.calls: list[Put | PutWrites] = []
        self._grows = grows
        self._latest: CheckpointTuple | None = None

    def get_tuple(self, config: Any) -> CheckpointTuple | None:  # noqa: ARG002  # there is one thread
        return self._latest

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        kept: Any = {**checkpoint, "channel_values": dict(checkpoint["channel_values"])}
        parent_id = config["configurable"].get("checkpoint_id")
        kind = "put" if self._grows in new_versions else "put, nothing new"
        self.calls.append(Put(kept, dict(metadata), dict(new_versions), parent_id, kind))
        config = _config(config["configurable"]["thread_id"], checkpoint["id"])
        self._latest = CheckpointTuple(config, kept, metadata, None, [])
        return config

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        checkpoint_id = config["configurable"]["checkpoint_id"]
        self.calls.append(PutWrites(checkpoint_id, tuple(writes), task_id, task_path))


class Prose:
    """Texts of a given length that look like words, and are the same in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311  # text
        letters = "abcdefghijklmnopqrstuvwxyz"
        self._words = ["".join(self._random.choices(letters, k=self._random.randint(2, 9))) for _ in range(3000)]
        self._numbers = count()

    def text(self, length: int = 1000) -> str:
        words = self._random.choices(self._words, k=length // 5)
        return f"{next(self._numbers)} {' '.join(words)}"[:length].ljust(length, ".")


class Chat(TypedDict):
    messages: Annotated[list[Any], add_messages]
    profile: str


def chat_graph(prose: Prose, checkpointer: Any) -> Any:
    """One node that answers. Every `invoke` adds two messages and makes three checkpoints."""
    builder = StateGraph(Chat)
    builder.add_node("reply", lambda _: {"messages": [AIMessage(prose.text())]})
    builder.add_edge(START, "reply")
    return builder.compile(checkpointer=checkpointer)


def chat(messages: int) -> list[Turn]:
    """Record a chat of this many messages of 1 KB each, next to a channel of 20 KB that never changes."""
    prose, recorder = Prose(), Recorder(grows="messages")
    graph = chat_graph(prose, recorder)
    turns = []
    for turn in range(messages // 2):
        given: dict[str, Any] = {"messages": [HumanMessage(prose.text())]}
        if turn == 0:
            given["profile"] = prose.text(PROFILE_BYTES)
        graph.invoke(given, latest("recorded"), durability="sync")
        turns.append(Turn(tuple(sorted(recorder.calls, key=_place)), 2 * turn + 2))
        recorder.calls.clear()
    return turns


def replayed(turns: Sequence[Turn], saver: Any, thread_id: str) -> None:
    for turn in turns:
        for call in turn.calls:
            call.replay(saver, thread_id)
