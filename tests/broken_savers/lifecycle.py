"""Savers that break LIFECYCLE clauses."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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


@breaks("LIFECYCLE-2")
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
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        super().prune(thread_ids, strategy=strategy)
        self.__dict__.setdefault("pruned", set()).update(thread_ids)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if config["configurable"]["thread_id"] not in self.__dict__.get("pruned", ()):
            super().put_writes(config, writes, task_id, task_path)
