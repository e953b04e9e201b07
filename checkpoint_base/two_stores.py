"""Operations that span two stores, as transfers and imports do: each request names the executor that carries it out."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from checkpoint_base.errors import ConflictError
from checkpoint_base.keys import CheckpointKey, shown
from checkpoint_base.records import CheckpointRecord, ListQuery
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.transport import Executor, Operation

T = TypeVar("T")

_AT_ONCE = 500
"""How many checkpoints are read at once without their contents."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """How many checkpoints of a thread were sent, and how many the target had already."""

    sent: int
    there: int


@dataclass(frozen=True, slots=True)
class Directed:
    """A request, and the executor that carries it out."""

    executor: Executor
    request: Any


class Directing:
    """Hands each request to the executor that it names."""

    def execute(self, directed: Directed) -> Any:
        return directed.executor.execute(directed.request)

    async def aexecute(self, directed: Directed) -> Any:
        return await directed.executor.aexecute(directed.request)


def on(saver: CheckpointSaver, operation: Operation[T]) -> Operation[T]:
    """Run an operation of one saver's store as part of an operation that spans two stores."""
    try:
        request = next(operation)
        while True:
            try:
                response = yield Directed(saver.transport, request)
            except BaseException as error:  # noqa: BLE001  # thrown into the operation, which may handle it
                request = operation.throw(error)
            else:
                request = operation.send(response)
    except StopIteration as done:
        result: T = done.value
        return result


def checkpoints_of(saver: CheckpointSaver, thread_id: str) -> Operation[dict[CheckpointKey, CheckpointRecord]]:
    """Read a thread's checkpoints without their contents."""
    found: dict[CheckpointKey, CheckpointRecord] = {}
    query = ListQuery(thread_id, limit=_AT_ONCE, contents=False)
    while True:
        page = yield from on(saver, saver.store.list(query))
        # It only matters whether there is a header. The headers themselves are read again with the contents.
        found |= {each.position: replace(each.record, header=each.record.header[:1]) for each in page}
        if len(page) < query.limit:
            return found
        query = replace(query, after=page[-1].position)


def refuse_foreign(thread_id: str, foreign: Set[CheckpointKey]) -> None:
    """Raise an error if the target has checkpoints of a thread that its source lacks."""
    if foreign:
        raise ConflictError(
            f"thread {thread_id!r} has checkpoints in the target that it does not have in the source, such as "
            f"{shown(max(key.checkpoint_id for key in foreign))}: delete it there first, or leave it as it is"
        )


def by_age(key: CheckpointKey) -> tuple[str, str]:
    """Return a key for sorting oldest first, unlike listings. LangGraph's ids grow with time: parents come first."""
    return (key.checkpoint_id, key.checkpoint_ns)
