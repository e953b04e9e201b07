"""Pages whose records are in several indexes, which are read in parallel and merged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from checkpoint_base.transport import Operation
from checkpoint_redis.format import FoundChunks
from checkpoint_redis.transport import Argument, Call

T = TypeVar("T")

LOOKS = 3200
"""How many entries the scripts of a request look at, all together, when a filter discards most of them.

A server carries out the scripts of a request one after the other, and may serve nobody else in between.
"""


@dataclass(slots=True)
class Source(Generic[T]):
    """An index that a page is read from, and the positions and items that have arrived from it.

    ``make_call`` gets the ``keys``, the ``bound`` to go on from, the most items to return, the most entries to look at,
    and whether it is the first call for this page. The source is asked for ``share`` items at first; ``is_cut`` says
    that its last answer had as many as it was asked for.
    """

    make_call: Callable[[Sequence[str], Argument, int, int, bool], Call]
    keys: Sequence[str]
    bound: Argument
    share: int
    is_first: bool = True
    is_done: bool = False
    is_cut: bool = False
    items: deque[tuple[Any, T]] = field(default_factory=deque)


def likely_share(limit: int, sources: int) -> int:
    """Return how many of a page's ``limit`` items one source has at most, in 99 of 100 pages.

    That is if each item is in one of the sources by chance: their numbers spread by about the root of the mean.
    """
    mean = limit / sources
    return min(limit, math.ceil(mean + 3.5 * math.sqrt(mean) + 2))


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

    A source that has used up its share is asked for all that the page still lacks. Items may be in rows, as the
    checkpoints of a run are: so the other sources are asked for another share at once, or each could need a request.
    """
    found: list[T] = []
    chunks: dict[str, FoundChunks] = {}
    first = max if newest else min
    while len(found) < limit:
        hungry = [source for source in sources if not source.items and not source.is_done]
        if hungry:
            lacking = limit - len(found)
            asked = [(source, source.share if source.is_first else lacking) for source in hungry]
            if any(source.is_cut for source in hungry):
                asked += [
                    (source, min(source.share, lacking))
                    for source in sources
                    if source.is_cut and not source.is_done and 0 < len(source.items) <= source.share
                ]
            replies = yield [
                source.make_call(source.keys, source.bound, most, LOOKS // len(asked), source.is_first)
                for source, most in asked
            ]
            for (source, most), (bound, *items) in zip(asked, replies, strict=True):
                source.is_first = False
                source.is_cut = len(items) >= most
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
