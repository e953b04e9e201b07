"""Pages whose records lie in several indexes: asked for in parallel, and merged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from checkpoint_base.transport import Operation
from checkpoint_redis.format import FoundChunks
from checkpoint_redis.scripts import Script
from checkpoint_redis.transport import Argument, Call

T = TypeVar("T")


@dataclass(slots=True)
class Source(Generic[T]):
    """An index that is read for a page: by which call, where it goes on, and positions and items that have arrived.

    ``tail`` is what stands behind the bound in the first call, and ``later_tail`` in any other one of the page.
    """

    script: Script
    keys: Sequence[str]
    head: Sequence[Argument]
    bound: Argument
    tail: Sequence[Argument]
    later_tail: Sequence[Argument]
    is_done: bool = False
    items: deque[tuple[Any, T]] = field(default_factory=deque)

    @property
    def call(self) -> Call:
        return Call(self.script, self.keys, (*self.head, self.bound, *self.tail))


def merged(
    sources: Sequence[Source[T]],
    limit: int,
    read: Callable[[Sequence[Any], dict[str, FoundChunks]], tuple[Any, T]],
    *,
    newest: bool,
) -> Operation[list[T]]:
    """The first ``limit`` items of all sources by position. All that must be asked are asked at once.

    ``read`` is given an answer's item, and the chunks of each thread that the page has so far.
    """
    found: list[T] = []
    chunks: dict[str, FoundChunks] = {}
    first = max if newest else min
    while len(found) < limit:
        hungry = [source for source in sources if not source.items and not source.is_done]
        if hungry:
            replies = yield [source.call for source in hungry]
            for source, (bound, *items) in zip(hungry, replies, strict=True):
                source.tail = source.later_tail
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
