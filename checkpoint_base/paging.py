"""Listings, read page by page: while the caller works, no connection is held and only one page is in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeAlias, TypeVar

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.records import (
    CheckpointRecord,
    InboxQuery,
    InterruptRecord,
    ListQuery,
    StoredCheckpoint,
    ThreadRecord,
)
from checkpoint_base.transport import Operation, about

Query = TypeVar("Query", ListQuery, InboxQuery)
Item = TypeVar("Item")
Record: TypeAlias = StoredCheckpoint | ThreadRecord | InterruptRecord

PAGE = 100
"""The most questions or checkpoints with contents on a page, because the next may be far larger than those before."""

FIRST_FULL_PAGE = 25
"""How many checkpoints a first page with contents has. Each may hold 10 MB, which is known only once it is read."""

LONG_PAGE = 16 * PAGE
"""The most threads, or checkpoints without contents, on a page; the first has `PAGE`."""

GROWTH = 4
"""How many times longer than a page the next one is at most. To find a page, S3 lists the names of all objects."""

PAGE_BYTES = 16 * 1024 * 1024
"""About how much the further pages of a listing hold, if they are like the one before."""

_CHANNEL_BYTES = 300
"""What a channel and its version take in memory."""


class Listing(Generic[Item]):
    """What one call lists, in the order of its query, while ``goes_on``.

    Args:
        fetch: finds the records of one page.
        query: what is asked for. Its ``limit`` is replaced.
        read: yields the items of a record: none if it does not match a filter, several if it holds several.
        limit: the most items to yield, or None for all.
        is_exact: whether the store itself applies the whole filter, so that no page need be longer than ``limit``.
        most: the most records of a page.

    Raises:
        UnsupportedOperation: the limit is no number of items.
    """

    def __init__(
        self,
        fetch: Callable[[Query], Operation[Sequence[Record]]],
        query: Query,
        read: Callable[[Any], Iterable[Item]],
        *,
        limit: int | None,
        is_exact: bool,
        most: int = PAGE,
    ) -> None:
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise UnsupportedOperation(f"limit={limit!r}: give a number of items from 0 on, or None for all")
        self._fetch: Callable[[Any], Operation[Sequence[Any]]] = fetch
        self._read = read
        self._left = limit
        self._is_exact = is_exact
        self._most = most
        first = FIRST_FULL_PAGE if isinstance(query, ListQuery) and query.contents else PAGE
        self._query = self._page_of(query, first)
        self.goes_on = limit != 0

    def next_page(self) -> Operation[Iterator[Item]]:
        """Fetch one page and return its items, which must be used up before the next page is fetched."""
        page = yield from about(self._query.thread_id, self._fetch(self._query))
        return self._items(page)

    def _items(self, page: Sequence[Any]) -> Iterator[Item]:
        for record in page:
            for item in self._read(record):
                yield item
                if self._left is not None:
                    self._left -= 1
                    if self._left == 0:
                        self.goes_on = False
                        return
        if not page or len(page) % self._query.limit:  # a store may return several pages at once
            self.goes_on = False
        else:
            following = replace(self._query, after=page[-1].position)
            self._query = self._page_of(following, fitting(page, growth=GROWTH, most=self._most))

    def _page_of(self, query: ListQuery | InboxQuery, limit: int) -> ListQuery | InboxQuery:
        """A query for at most ``limit`` records, and no more than are still wanted."""
        wanted = self._left if self._is_exact else None
        limit = max(1, limit if wanted is None else min(limit, wanted))
        if isinstance(query, InboxQuery):
            return replace(query, limit=limit, wanted=wanted)
        return replace(query, limit=limit)


def fitting(page: Collection[Record], *, growth: int, most: int) -> int:
    """How many records to read after these: ``growth`` times as many, unless that is more than one page should hold."""
    return max(1, min(most, growth * len(page), len(page) * PAGE_BYTES // max(_size(page), 1)))


def _size(page: Collection[Record]) -> int:
    """About how many bytes a page holds: records and chunks."""
    records = sum(len(record.header) + _CHANNEL_BYTES * len(record.channels) for record in map(_record, page) if record)
    # Checkpoints may share their chunks, and even the mapping that holds them.
    mappings = {id(found.chunks): found.chunks for found in page if not isinstance(found, ThreadRecord)}
    bodies = {id(chunk.body): chunk.body for chunks in mappings.values() for chunk in chunks.values()}
    return records + sum(map(len, bodies.values()))


def _record(found: Record) -> CheckpointRecord | None:
    match found:
        case StoredCheckpoint():
            return found.record
        case ThreadRecord():
            return found.latest
        case InterruptRecord():
            return found.checkpoint
