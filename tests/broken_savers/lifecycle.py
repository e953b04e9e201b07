"""Savers that break LIFECYCLE clauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


@breaks("LIFECYCLE-1")
class LooksBeforeItCreates(SQLiteSaver):
    """Creates its tables if it saw none, and does not expect somebody else to create them at the same time."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.marker = Path(f"{path}.made")

    def setup(self) -> None:
        missing = not self.marker.exists()
        time.sleep(0.01)
        if missing:
            self.marker.touch(exist_ok=False)
        super().setup()


@breaks("LIFECYCLE-1")
class EmptiesWhatItSetsUp(SQLiteSaver):
    def setup(self) -> None:
        super().setup()
        for thread in list(self.threads()):
            self.delete_thread(thread.thread_id)


@breaks("LIFECYCLE-2", "LIFECYCLE-4")
class KeepsNothingAfterClosing(SQLiteSaver):
    def close(self) -> None:
        for thread in list(self.threads()):
            self.delete_thread(thread.thread_id)
        super().close()


@breaks("LIFECYCLE-3")
class KeepsAStoreForEachColour(SQLiteSaver):
    """Its async methods store under another thread id."""

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named = {**config["configurable"], "thread_id": f"{config['configurable']['thread_id']}-async"}
        return await super().aput({"configurable": named}, checkpoint, metadata, new_versions)


@breaks("LIFECYCLE-4")
class WritesNothingToPrunedThreads(SQLiteSaver):
    def prune(self, thread_ids: Any, **options: Any) -> None:
        super().prune(thread_ids, **options)
        self.__dict__.setdefault("pruned", set()).update(thread_ids)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if config["configurable"]["thread_id"] not in self.__dict__.get("pruned", ()):
            super().put_writes(config, writes, task_id, task_path)


@breaks("LIFECYCLE-4")
class ListsWritesOfOneTask(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        for found in super().list(config, **options):
            writes = found.pending_writes or []
            yield found._replace(pending_writes=[write for write in writes if write[0] == writes[0][0]])


@breaks("LIFECYCLE-4")
class GetsTheLatestOfADeletedThread(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if config["configurable"].get("checkpoint_id"):
            return found
        latest = self.__dict__.setdefault("latest", {})
        place = (config["configurable"]["thread_id"], config["configurable"].get("checkpoint_ns", ""))
        latest[place] = found or latest.get(place)
        return latest[place]


@breaks("LIFECYCLE-4")
class ListsTheMetadataOfTheNewest(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        listed = [*super().list(config, **options)]
        yield from (found._replace(metadata=listed[0].metadata) for found in listed)


@breaks("LIFECYCLE-4")
class ListsTheValuesOfTheNewest(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        listed = [*super().list(config, **options)]
        for found in listed:
            found.checkpoint["channel_values"] = listed[0].checkpoint["channel_values"]
            yield found


@breaks("LIFECYCLE-4")
class ListsTheVersionsOfTheNewest(SQLiteSaver):
    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        listed = [*super().list(config, **options)]
        for found in listed:
            found.checkpoint["channel_versions"] = listed[0].checkpoint["channel_versions"]
            yield found


@breaks("LIFECYCLE-4")
class ListsWhatDoesNotMatch(SQLiteSaver):
    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        yield from super().list(config, **options)


@breaks("LIFECYCLE-4")
class WritesToTheCopiesOfAThread(SQLiteSaver):
    copies: ClassVar[dict[str, set[str]]] = {}

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        super().copy_thread(source_thread_id, target_thread_id)
        self.copies.setdefault(source_thread_id, set()).add(target_thread_id)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        named = config["configurable"]
        for thread_id in (named["thread_id"], *self.copies.get(named["thread_id"], ())):
            super().put_writes({"configurable": {**named, "thread_id": thread_id}}, writes, task_id, task_path)


@breaks("LIFECYCLE-4")
class KnowsNoForks(SQLiteSaver):
    """What has a parent follows the latest checkpoint."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named = config["configurable"]
        place = {"thread_id": named["thread_id"], "checkpoint_ns": named.get("checkpoint_ns", "")}
        latest = self.get_tuple({"configurable": place}) if named.get("checkpoint_id") else None
        return super().put(latest.config if latest else config, checkpoint, metadata, new_versions)
