"""Savers that break LIST clauses."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks

_PAGE = 100


@breaks("LIST-1")
class ListsTheOldestFirst(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        yield from reversed([*super().list(config, **options)])


@breaks("LIST-1")
class ListsNamespaceByNamespace(SQLiteSaver):
    """As InMemorySaver does."""

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        yield from sorted(
            super().list(config, **options), key=lambda listed: listed.config["configurable"]["checkpoint_ns"]
        )


@breaks("LIST-2", "LIFECYCLE-4")
class IgnoresBefore(SQLiteSaver):
    """As the Redis saver did."""

    def list(self, config: Any, *, before: Any = None, **options: Any) -> Iterator[Any]:
        yield from super().list(config, **options)


@breaks("LIST-2", "LIFECYCLE-4")
class ListsBeforeItself(SQLiteSaver):
    def list(self, config: Any, *, before: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            if before is None or listed.checkpoint["id"] <= before["configurable"]["checkpoint_id"]:
                yield listed


@breaks("LIST-3")
class TakesALimitOf0ForNone(SQLiteSaver):
    def list(self, config: Any, *, limit: int | None = None, **options: Any) -> Iterator[Any]:
        yield from super().list(config, limit=limit or None, **options)


@breaks("LIST-4")
class KnowsFourFilterKeys(SQLiteSaver):
    """As the Redis saver did."""

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        known = {
            key: value for key, value in (filter or {}).items() if key in ("source", "step", "run_id", "thread_id")
        }
        yield from super().list(config, filter=known, **options)


@breaks("LIST-4")
class RefusesKeysWithSigns(SQLiteSaver):
    """As the SQLite saver does since CVE-2025-67644."""

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for key in filter or {}:
            if not key.isidentifier():
                raise ValueError(f"Invalid filter key: {key!r}")
        yield from super().list(config, filter=filter, **options)


@breaks("LIST-4")
class FiltersByText(SQLiteSaver):
    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            if all(str(listed.metadata.get(key)) == str(value) for key, value in (filter or {}).items()):
                yield listed


@breaks("LIST-4")
class FiltersByContainment(SQLiteSaver):
    """As the Postgres saver does, with `@>`."""

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            if _contains(listed.metadata, filter or {}):
                yield listed


@breaks("LIST-5")
class LimitsBeforeItFilters(SQLiteSaver):
    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            if all(listed.metadata.get(key) == value for key, value in (filter or {}).items()):
                yield listed


@breaks("LIST-6")
class ListsNothingForNone(SQLiteSaver):
    """As the Valkey saver does."""

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        if config is not None:
            yield from super().list(config, **options)


@breaks("LIST-6")
class NarrowsThreadsOnly(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        yield from super().list(config, **(options if config else {}))


@breaks("LIST-7")
class NarrowsNamespacesOnly(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        has_namespace = config is None or "checkpoint_ns" in config["configurable"]
        yield from super().list(config, **(options if has_namespace else {}))


@breaks("LIST-7")
class TakesTheRootForEveryNamespace(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        if config is not None and not config["configurable"].get("checkpoint_ns"):
            config = {"configurable": {"thread_id": config["configurable"]["thread_id"]}}
        yield from super().list(config, **options)


@breaks("LIST-7")
class TakesNoNamespaceForTheRoot(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        if config is not None:
            config = {"configurable": {"checkpoint_ns": "", **config["configurable"]}}
        yield from super().list(config, **options)


@breaks("LIST-8")
class IgnoresTheCheckpointId(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        if config is not None:
            config = {"configurable": {**config["configurable"], "checkpoint_id": None}}
        yield from super().list(config, **options)


@breaks("LIST-8")
class IgnoresTheFilterOfOneCheckpoint(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        one = config is not None and config["configurable"].get("checkpoint_id")
        yield from super().list(config, **({} if one else options))


@breaks("LIST-9")
class HoldsItsLockWhileItLists(SQLiteSaver):
    """As the Postgres saver does. It gives up some time after the suite, so that its thread ends."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lock = threading.Lock()

    def get_tuple(self, config: Any) -> Any:
        if not self._lock.acquire(timeout=12):
            raise TimeoutError
        try:
            return super().get_tuple(config)
        finally:
            self._lock.release()

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        with self._lock:
            yield from super().list(config, **options)


@breaks("LIST-9")
class HasOneCursor(SQLiteSaver):
    _cursor: Iterator[Any] = iter(())

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        self._cursor = super().list(config, **options)
        while (listed := next(self._cursor, None)) is not None:
            yield listed


@breaks("LIST-9")
class LocksWritersOutWhileItLists(SQLiteSaver):
    """Like a database that refuses writes to a transaction that began by reading."""

    _listings = 0

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if self._listings:
            raise RuntimeError("database is locked")
        super().put_writes(config, writes, task_id, task_path)

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        self._listings += 1
        yield from super().list(config, **options)
        self._listings -= 1


@breaks("LIST-10")
class ListsWithoutWrites(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            yield listed._replace(pending_writes=[])


@breaks("LIST-10")
class ListsWithoutUnchangedValues(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            listed.checkpoint["channel_values"].pop("kept", None)
            yield listed


@breaks("LIST-11")
class StopsAfterAPage(SQLiteSaver):
    """As the Redis saver did, after 10,000."""

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        yield from islice(super().list(config, **options), _PAGE)


@breaks("LIST-11")
class ListsAThousandOfAThread(SQLiteSaver):
    """As one request to S3 does."""

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        yield from islice(super().list(config, **options), 1000 if config else None)


@breaks("LIST-11")
class ListsAThousandOfAllThreads(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        yield from islice(super().list(config, **options), None if config else 1000)


@breaks("LIST-11")
class PagesByIdAlone(SQLiteSaver):
    def list(self, config: Any, *, before: Any = None, limit: int | None = None, **options: Any) -> Iterator[Any]:
        while page := [*super().list(config, before=before, limit=_PAGE, **options)][:limit]:
            yield from page
            before, limit = page[-1].config, None if limit is None else limit - len(page)


@breaks("LIST-12")
class PastesFilterKeysIntoSQL(SQLiteSaver):
    """As in CVE-2025-67644."""

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            texts = {key: value for key, value in listed.metadata.items() if isinstance(value, str)}
            if all(_finds(texts, key, value) for key, value in (filter or {}).items()):
                yield listed


@breaks("LIST-12")
class TakesFilterKeysForPaths(SQLiteSaver):
    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            if all(_at(listed.metadata, key) == value for key, value in (filter or {}).items()):
                yield listed


@breaks("LIST-12")
class TakesFilterValuesForPatterns(SQLiteSaver):
    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        for listed in super().list(config, **options):
            if all(fnmatchcase(str(listed.metadata.get(key)), str(value)) for key, value in (filter or {}).items()):
                yield listed


def _contains(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in found and _contains(found[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and all(any(_contains(item, value) for item in found) for value in wanted)
    return found == wanted


def _finds(metadata: dict[str, str], key: str, value: Any) -> bool:
    """Whether a database finds the metadata when the key is pasted into the query."""
    database = sqlite3.connect(":memory:")
    try:
        database.execute("CREATE TABLE metadata (key TEXT, value TEXT)")
        database.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
        found = database.execute(f"SELECT 1 FROM metadata WHERE value = ? AND key = '{key}'", (value,))
        return found.fetchone() is not None
    finally:
        database.close()


def _at(metadata: Any, path: str) -> Any:
    for key in path.split("."):
        metadata = metadata.get(key) if isinstance(metadata, dict) else None
    return metadata
