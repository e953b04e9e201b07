"""Pages whose records are in several indexes, which are read in parallel and merged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from checkpoint_base.errors import kept_changing
from checkpoint_base.records import ChunkId, InboxQuery, InterruptRecord, ListQuery, StoredCheckpoint
from checkpoint_base.transport import Operation
from checkpoint_redis.chunks import ATTEMPTS, Incomplete, KeyOf, complete
from checkpoint_redis.format import FoundChunks
from checkpoint_redis.transport import Argument, Call

T = TypeVar("T")
Query = TypeVar("Query", ListQuery, InboxQuery)
Found = TypeVar("Found", StoredCheckpoint, InterruptRecord)

LOOKS = 3200
"""How many entries the scripts of a request look at, all together, when a filter discards most of them.

A server carries out the scripts of a request one after the other, and may serve nobody else in between.
"""


@dataclass(slots=True)
class Source(Generic[T]):
    """An index that a page is read from, and the positions and items that have arrived from it.

    ``make_call`` gets the source, the most items to return, and the most entries to look at. The next answer goes on
    from ``bound``. The source is asked for ``share`` items at first, while ``is_first``; ``is_cut`` says that its last
    answer had items, and had no room for more.
    """

    make_call: Callable[[Source[T], int, int], Call]
    keys: Sequence[str]
    bound: Argument
    share: int
    is_first: bool = True
    is_done: bool = False
    is_cut: bool = False
    items: deque[tuple[Any, T]] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """An item of a listing, and the chunks of its thread; if the answer had no room for all, the roots of its own."""

    thread_id: str
    item: T
    chunks: FoundChunks
    roots: Collection[ChunkId]


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
            looks = LOOKS // len(asked)
            asked = [(source, min(most, looks)) for source, most in asked]
            replies = yield [source.make_call(source, most, looks) for source, most in asked]
            for (source, _), (bound, *items) in zip(asked, replies, strict=True):
                source.is_first = False
                source.is_cut = bound is not None and len(items) > 0
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


def completed_page(
    query: Query,
    sources: Callable[[Query], Sequence[Source[Part[Found]]]],
    read: Callable[[Sequence[Any], dict[str, FoundChunks]], tuple[Any, Part[Found]]],
    again: Callable[[Any], Call],
    key_of: KeyOf,
    *,
    newest: bool,
) -> Operation[Sequence[Found]]:
    """Return one page of items with their chunks.

    Chunks that the first answers have no room for are fetched by later requests. Items that are removed before that
    are left out, and those that follow take their place, as only the last page may be shorter than the limit.
    ``again`` makes a call that returns the item at a position, and ``key_of`` gives the key of a thread.
    """
    page: list[Found] = []
    limit = query.limit
    while True:
        found = yield from merged(sources(query), query.limit, read, newest=newest)
        page += yield from _still_there(found, read, again, key_of)
        if len(page) == limit or len(found) < query.limit:
            return page
        behind: Any = found[-1].item.position
        query = replace(query, after=behind, limit=limit - len(page))


def _still_there(
    found: Sequence[Part[Found]],
    read: Callable[[Sequence[Any], dict[str, FoundChunks]], tuple[Any, Part[Found]]],
    again: Callable[[Any], Call],
    key_of: KeyOf,
) -> Operation[Sequence[Found]]:
    """Fetch what items lack, and leave out those that are removed meanwhile.

    If a chunk is not there, an item may have been removed or changed since it was read. So the items of its thread
    are read again. If they are as they were, and something is still not there, the thread is damaged: they are
    returned as they are.
    """
    page = {part.item.position: part for part in found}
    suspect, changed = found, {part.thread_id for part in found}
    for _ in range(ATTEMPTS):
        lacking = yield from complete(_incomplete(suspect), key_of)
        suspect = [part for part in suspect if part.thread_id in lacking & changed]
        if not suspect:
            return [part.item for part in page.values()]
        answers = yield [again(part.item.position) for part in suspect]
        changed = set()
        for before, (_, *items) in zip(suspect, answers, strict=True):
            position = before.item.position
            parts = [read(item, {before.thread_id: before.chunks})[1] for item in items]
            now = [part for part in parts if part.item.position == position]
            if now:
                page[position] = now[0]
            else:
                del page[position]
            if [part.item for part in now] != [before.item]:
                changed.add(before.thread_id)
        last = suspect[-1].thread_id
        suspect = [page[part.item.position] for part in suspect if part.item.position in page]
    raise kept_changing(last)


def _incomplete(parts: Iterable[Part[Any]]) -> Sequence[Incomplete]:
    roots: dict[str, set[ChunkId]] = {}
    chunks = {}
    for part in parts:
        roots.setdefault(part.thread_id, set()).update(part.roots)
        chunks[part.thread_id] = part.chunks
    return [Incomplete(thread_id, roots[thread_id], chunks[thread_id]) for thread_id in roots]
