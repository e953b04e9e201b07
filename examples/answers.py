"""Answers to the questions of an inbox, each given once, even if many workers share the store.

Two things must not happen: that a question gets two answers, and that two workers run one thread at the same time. A
guarantee of every saver on every backend prevents both: an ordinary write is never replaced. So workers race to write
under the same name, read it back, and the one that finds its own write has won.

The writes are stored on the waiting checkpoint, under tasks that no graph has, so LangGraph ignores them. They are
deleted with the checkpoint.

LangGraph refuses an answer that does not fit the `response_schema` of its `interrupt` when the thread is resumed. It is
then taken back, and the question can be answered anew. Check everything else before `record`: an answer that a node
refuses by raising an error counts for good, because LangGraph has stored it by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langgraph.errors import is_invalid_resume
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from checkpoint_base import CheckpointInfo, CheckpointSaver, PendingInterrupt, ThreadInfo

Place = PendingInterrupt | CheckpointInfo
"""What has the ids of a checkpoint."""

LEASE = timedelta(minutes=5)
"""How long a worker has a thread to itself. It must be longer than a run; after a crash, others wait this long."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to the questions of a saver's inbox, and the right to continue their threads."""

    saver: CheckpointSaver
    lease: timedelta = LEASE

    async def record(self, question: PendingInterrupt, answer: Any) -> bool:
        """Store the answer to a question. Return False and change nothing if it already has an answer."""
        mark = uuid4().hex
        task = _answer_task(question, await self._writes(question))
        await self._write(question, task, {"answer": answer, "by": mark})
        return bool((await self._writes(question))[task]["by"] == mark)

    async def of_thread(self, thread_id: str) -> dict[str, Any]:
        """The stored answers to a thread's pending questions, by interrupt id: the value to resume it with."""
        found: dict[str, Any] = {}
        async for question in self.saver.ainterrupts(thread_id=thread_id):
            writes = await self._writes(question)
            stored = writes.get(_answer_task(question, writes))
            if stored is not None and question.interrupt_id:  # without: this process cannot read the question
                found[question.interrupt_id] = stored["answer"]
        return found

    async def resume(self, graph: CompiledStateGraph[Any, Any, Any, Any], config: RunnableConfig) -> dict[str, str]:
        """Continue a thread with its stored answers, in a turn that this worker has.

        Returns the answers that LangGraph refused, by interrupt id: why. Their questions wait for another answer.
        """
        thread_id = config["configurable"]["thread_id"]
        refused: dict[str, str] = {}
        if await self._was_resumed(thread_id):
            # A worker died, or a node failed. LangGraph may have stored answers, and goes on with them by itself. Given
            # again, an answer would be taken for one to the next question of its node.
            await graph.ainvoke(None, config)
        for interrupt_id, answer in (await self.of_thread(thread_id)).items():
            await self._mark(thread_id, interrupt_id, "given")
            try:  # one at a time, so that it is known which one is refused; the others go on waiting meanwhile
                await graph.ainvoke(Command(resume={interrupt_id: answer}), config)
            except ValueError as error:
                if not is_invalid_resume(error):
                    raise
                await self._mark(thread_id, interrupt_id, "refused")
                refused[interrupt_id] = str(error)
        return refused

    async def _was_resumed(self, thread_id: str) -> bool:
        """Whether a pending question's answer has been given to LangGraph before."""
        async for question in self.saver.ainterrupts(thread_id=thread_id):
            writes = await self._writes(question)
            if f"given: {_answer_task(question, writes)}" in writes:
                return True
        return False

    async def _mark(self, thread_id: str, interrupt_id: str, mark: str) -> None:
        async for question in self.saver.ainterrupts(thread_id=thread_id):
            if question.interrupt_id == interrupt_id:
                task = _answer_task(question, await self._writes(question))
                await self._write(question, f"{mark}: {task}", {})

    @asynccontextmanager
    async def turn(self, thread_id: str) -> AsyncIterator[bool]:
        """Yield whether this worker may continue a waiting thread. If so, no other worker may until the block ends.

        Yields False if another worker has the turn, or if the thread no longer waits. A block that takes longer than
        the lease is stopped with `TimeoutError`. The workers' clocks must agree to within a fraction of the lease.
        """
        async with self._turn(await self._any_question(thread_id), self._any_question) as may_continue:
            yield may_continue

    async def abandoned(
        self, graph: CompiledStateGraph[Any, Any, Any, Any], metadata: Mapping[str, Any], within: timedelta
    ) -> AsyncIterator[str]:
        """The threads that have gone on within this time, but wait for nobody, are not done, and have no worker.

        Their worker died: no inbox lists them, and no answer continues them. They have not changed for a lease. A
        thread at a static breakpoint looks the same, so the graph must have none. Its threads are those with this
        metadata, which all of its runs pass.
        """
        oldest = datetime.now(UTC) - within
        async for thread in self.saver.athreads(metadata=metadata):
            if thread.updated_at < oldest:
                return
            # Not `next`, which is empty, too, if only the end of a step is missing.
            if self._rests(thread) and (await graph.aget_state(_root(thread.thread_id))).tasks:
                yield thread.thread_id

    @asynccontextmanager
    async def turn_of_abandoned(self, thread_id: str) -> AsyncIterator[bool]:
        """Like `turn`, for a thread that `abandoned` has found. Yields False also if it has gone on since."""
        latest = await self._latest(thread_id)  # before it is known to rest: later, another worker may have gone on
        rests = [each async for each in self.saver.athreads(thread_id=thread_id) if self._rests(each)]
        async with self._turn(latest if rests else None, self._latest) as may_continue:
            yield may_continue

    def _rests(self, thread: ThreadInfo) -> bool:
        return not thread.pending_interrupts and thread.updated_at < datetime.now(UTC) - self.lease

    @asynccontextmanager
    async def _turn(
        self, place: Place | None, find_again: Callable[[str], Awaitable[Place | None]]
    ) -> AsyncIterator[bool]:
        number = await self._taken_turn(place) if place else None
        if place is None or number is None:
            yield False
            return
        try:
            # The turn before ours may have continued the thread while we looked.
            now = await find_again(place.thread_id)
            async with asyncio.timeout(self.lease.total_seconds()):
                yield now is not None and now.checkpoint_id == place.checkpoint_id
        finally:
            await self._write(place, f"end of turn {number}", {})

    async def _taken_turn(self, place: Place) -> int | None:
        """Take the next turn of the thread; None if another worker has the turn, or was quicker."""
        now = datetime.now(UTC)
        writes = await self._writes(place)
        number = 0
        while (held := writes.get(f"turn {number}")) is not None:
            if f"end of turn {number}" not in writes and now < datetime.fromisoformat(held["until"]):
                return None
            number += 1
        mark = uuid4().hex
        await self._write(place, f"turn {number}", {"by": mark, "until": (now + self.lease).isoformat()})
        stored = (await self._writes(place))[f"turn {number}"]
        return number if stored["by"] == mark else None

    async def _any_question(self, thread_id: str) -> PendingInterrupt | None:
        async for question in self.saver.ainterrupts(thread_id=thread_id, limit=1):
            return question
        return None

    async def _latest(self, thread_id: str) -> CheckpointInfo | None:
        async for checkpoint in self.saver.ahistory(_root(thread_id), limit=1):
            return checkpoint
        return None

    async def _write(self, place: Place, task: str, value: Any) -> None:
        await self.saver.aput_writes(_config(place), [("answers", value)], task)

    async def _writes(self, place: Place) -> dict[str, Any]:
        found = await self.saver.aget_tuple(_config(place))
        return {task: value for task, channel, value in (found and found.pending_writes) or () if channel == "answers"}


def _answer_task(question: PendingInterrupt, writes: dict[str, Any]) -> str:
    """The name under which the answer to a question is written: another one whenever an answer was refused."""
    number = 0
    # Not with `created_at`: whenever its thread is resumed without its answer, a node asks again under the same id.
    while f"refused: answer {number} to {question.interrupt_id}" in writes:
        number += 1
    return f"answer {number} to {question.interrupt_id}"


def _root(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def _config(place: Place) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": place.thread_id,
            "checkpoint_ns": place.checkpoint_ns,
            "checkpoint_id": place.checkpoint_id,
        }
    }
