"""Listings, read page by page: while the caller works, no connection is held and only one page is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from checkpoint_base.errors import UnsupportedOperation
from checkpoint_base.records import InboxQuery, ListQuery
from checkpoint_base.transport import Operation

Query = TypeVar("Query", ListQuery, InboxQuery)
Item = TypeVar("Item")

MAX_PAGE = 100
"""The most records of a page."""

FIRST_PAGE = 25
"""The length of a first page of checkpoints with contents. Each may hold 10 MB, which is known only once it is read."""

PAGE_BYTES = 16 * 1024 * 1024
"""About how much the further pages of such a listing hold."""


class Listing(Generic[Item]):
    """What one call lists, in the order of its query, while ``goes_on``.

    Args:
        fetch: finds the records of one page.
        query: what is asked for. Its ``limit`` is replaced.
        read: yields the items of a record: none if it does not match a filter, several if it holds several.
        limit: the most items to yield, or None for all.
        is_exact: whether the store itself applies the whole filter, so that no page need be longer than ``limit``.

    Raises:
        UnsupportedOperation: the limit is no number of items.
    """

    def __init__(
        self,
        fetch: Callable[[Query], Operation[Sequence[Any]]],
        query: Query,
        read: Callable[[Any], Iterable[Item]],
        *,
        limit: int | None,
        is_exact: bool,
    ) -> None:
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise UnsupportedOperation(f"limit={limit!r}: give a number of items from 0 on, or None for all")
        self._fetch: Callable[[Any], Operation[Sequence[Any]]] = fetch
        self._read = read
        self._left = limit
        self._longest = MAX_PAGE if limit is None or not is_exact else max(1, min(limit, MAX_PAGE))
        self._loads = isinstance(query, ListQuery) and query.contents
        self._query: ListQuery | InboxQuery = replace(
            query, limit=min(self._longest, FIRST_PAGE) if self._loads else self._longest
        )
        self.goes_on = limit != 0

    def next_page(self) -> Operation[Iterator[Item]]:
        """Fetch one page and return its items, which must be used up before the next page is fetched."""
        page = yield from self._fetch(self._query)
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
            self._query = replace(self._query, after=page[-1].position, limit=self._next_limit(page))

    def _next_limit(self, page: Sequence[Any]) -> int:
        if not self._loads:
            return self._longest
        held = {id(found.chunks): found.chunks for found in page}  # those of a page may be the same
        size = sum(len(chunk.body) for chunks in held.values() for chunk in chunks.values())
        return max(1, min(self._longest, len(page) * PAGE_BYTES // max(size, 1)))
