"""Savers that break CRASH clauses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


class _StoresLater(SQLiteSaver):
    """Keeps acknowledged calls in memory, and stores them at the next read or when it is closed."""

    def __init__(self, path: Any) -> None:
        super().__init__(path)
        self.later: list[Callable[[], Any]] = []

    def flush(self) -> None:
        while self.later:
            self.later.pop(0)()

    def get_tuple(self, config: Any) -> Any:
        self.flush()
        return super().get_tuple(config)

    def close(self) -> None:
        self.flush()
        super().close()


@breaks("CRASH-1")
class AcknowledgesCheckpointsBeforeTheyAreStored(_StoresLater):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self.flush()
        arguments = (config, {**checkpoint}, {**metadata}, {**new_versions})
        self.later.append(lambda: SQLiteSaver.put(self, *arguments))
        place = {key: config["configurable"].get(key, "") for key in ("thread_id", "checkpoint_ns")}
        return {"configurable": {**place, "checkpoint_id": checkpoint["id"]}}


@breaks("CRASH-1", "CONCURRENCY-2")
class StoresInSeveralSteps(SQLiteSaver):
    """Between two steps, a checkpoint is without its values, or a task has only a part of its writes."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        super().put(config, {**checkpoint, "channel_values": {}}, metadata, {})
        time.sleep(0.02)
        return super().put(config, checkpoint, metadata, new_versions)

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        writes = list(writes)
        for length in range(1, len(writes) + 1):
            super().put_writes(config, writes[:length], task_id, task_path)
            time.sleep(0.02)


@breaks("CRASH-2")
class StoresWritesWithTheNextCheckpoint(_StoresLater):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        self.later.append(lambda: SQLiteSaver.put_writes(self, config, writes, task_id, task_path))

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self.flush()
        return super().put(config, checkpoint, metadata, new_versions)
