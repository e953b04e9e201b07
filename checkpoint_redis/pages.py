"""Pages whose records are in several indexes, which are read in parallel and merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from checkpoint_base.transport import Operation
from checkpoint_redis.format import FoundChunks
from checkpoint_redis.transport import Argument, Call

T = TypeVar("T")


@dataclass(slots=True)
class Source(Generic[T]):
    """An index that a page is read from, and the positions and items that have arrived from it.

    ``make_call`` gets the ``keys``, the ``bound`` to go on from, and whether it is the first call for this page.
    """

    make_call: Callable[[Sequence[str], Argument, bool], Call]
    keys: Sequence[str]
    bound: Argument
    is_first: bool = True
    is_done: bool = False
    items: deque[tuple[Any, T]] = field(default_factory=deque)

    @property
    def call(self) -> Call:
        return self.make_call(self.keys, self.bound, self.is_first)


def merged(
    sources: Sequence[Source[T]],
    limit: int,
    read: Callable[[Sequence[Any], dict[str, FoundChunks]], tuple[Any, T]],
    *,
    newest: bool,
) -> Operation[list[T]]:
    """Return the first ``limit`` items of all sources by position. Sources are asked together, and only when needed.

    ``read`` gets an item of an answer, and the chunks that the page has so far of each thread. It returns the item's
    position and the item.
    """
    found: list[T] = []
    chunks: dict[str, FoundChunks] = {}
    first = max if newest else min
    while len(found) < limit:
        hungry = [source for source in sources if not source.items and not source.is_done]
        if hungry:
            replies = yield [source.call for source in hungry]
            for source, (bound, *items) in zip(hungry, replies, strict=True):
                source.is_first = False
                source.items.extend(read(item, chunks) for item in items)
                if bound is None:
                    source.is_done = True
                else:
                    source.bound = bound
            continue
        ready = [source for source in sources if source.items]
        if not ready:
            break
        found.append(first(ready, key=lambda source: source.items[0][0]).items.popleft()[1])
    return found
