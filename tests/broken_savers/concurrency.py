"""Savers that break CONCURRENCY clauses."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


@breaks("CONCURRENCY-1")
class KeepsTheConfigOfItsCallOnItself(SQLiteSaver):
    """A thread overwrites what the call of another thread is working on."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self.current = config
        time.sleep(0.001)
        return super().put(self.current, checkpoint, metadata, new_versions)


@breaks("CONCURRENCY-2")
class RewritesWhatItReadOfTheThread(SQLiteSaver):
    """Reads a checkpoint's writes, and stores them again with the new ones as one value."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        checkpoint_id = config["configurable"]["checkpoint_id"]
        rows = dict(_ROWS.get(checkpoint_id, {}))
        time.sleep(0.001)
        _ROWS[checkpoint_id] = {**rows, task_id: [(task_id, *write) for write in writes]}

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        rows = _ROWS.get(found.checkpoint["id"], {}) if found else {}
        return found and found._replace(pending_writes=[write for task in sorted(rows) for write in rows[task]])


_ROWS: dict[str, Any] = {}


@breaks("CONCURRENCY-2")
class KeepsTheLatestIdAsAPointer(SQLiteSaver):
    """The checkpoint that was put last is the latest, whatever its id."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        _LATEST[_place(config)] = stored
        return stored

    def get_tuple(self, config: Any) -> Any:
        named = "checkpoint_id" in config["configurable"]
        return super().get_tuple(config if named else _LATEST.get(_place(config), config))


_LATEST: dict[tuple[Any, Any], Any] = {}


def _place(config: Any) -> tuple[Any, Any]:
    return config["configurable"]["thread_id"], config["configurable"].get("checkpoint_ns")


@breaks("CONCURRENCY-3")
class ReadsItsOwnWritesFromItsMemory(SQLiteSaver):
    """Each handle returns what it wrote itself in place of what is stored."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id, task_path)
        self.__dict__.setdefault("own", {})[config["configurable"]["checkpoint_id"], task_id] = writes

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        own = self.__dict__.get("own", {})
        return found and found._replace(
            pending_writes=[
                (task_id, channel, dict(own.get((found.checkpoint["id"], task_id), ())).get(channel, value))
                for task_id, channel, value in found.pending_writes or []
            ]
        )


@breaks("CONCURRENCY-4")
class BelongsToTheFirstEventLoop(SQLiteSaver):
    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        if self.__dict__.setdefault("home", asyncio.get_running_loop()) is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        return await super().aput(config, checkpoint, metadata, new_versions)


@breaks("CONCURRENCY-5")
class RunsItsAsyncMethods(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        call = self.aput(config, checkpoint, metadata, new_versions)
        try:
            return asyncio.run(call)
        finally:
            call.close()


@breaks("CONCURRENCY-6")
class ClosesWithItsClone(SQLiteSaver):
    def __copy__(self) -> ClosesWithItsClone:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__, is_clone=True)
        return clone

    def __del__(self) -> None:
        if self.__dict__.get("is_clone"):
            self.close()


@breaks("CONCURRENCY-6")
class KeepsWritesInTheClone(SQLiteSaver):
    """A copy keeps writes in a list of its own, which nobody reads."""

    def __copy__(self) -> KeepsWritesInTheClone:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__, own=[])
        return clone

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if "own" in self.__dict__:
            self.__dict__["own"].append(writes)
        else:
            super().put_writes(config, writes, task_id, task_path)


@breaks("CONCURRENCY-7")
class LeavesACommandInProgress(SQLiteSaver):
    """Like a saver on one connection to PostgreSQL, which knows of no cancellation."""

    is_busy = False

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if self.is_busy:
            raise RuntimeError("another command is already in progress")
        self.is_busy = True
        await super().aput_writes(config, writes, task_id, task_path)
        self.is_busy = False


@breaks("CONCURRENCY-7")
class StoresWritesOneByOne(SQLiteSaver):
    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        for end in range(1, len(writes) + 1):
            await super().aput_writes(config, writes[:end], task_id, task_path)
