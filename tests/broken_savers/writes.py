"""Savers that break WRITES clauses."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import WRITES_IDX_MAP

from checkpoint_base import SQLiteSaver
from checkpoint_base.sqlite.transport import Transaction
from tests.broken_savers import breaks


def execute(saver: SQLiteSaver, statement: str, *parameters: object) -> list[Any]:
    """Run a broken saver's own SQL on its file."""
    work = Transaction(lambda db: db.execute(statement, parameters).fetchall(), writes=True)
    return saver.store.transport.execute(work)


@breaks("WRITES-1")
class LosesLargeWritesThatNoCheckpointHolds(SQLiteSaver):
    """Like a saver that reads the pieces of a checkpoint's values, and no others."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return found and found._replace(
            pending_writes=[
                write
                for write in found.pending_writes or ()
                if len(repr(write[2])) < 10_000 or write[2] in found.checkpoint["channel_values"].values()
            ]
        )


@breaks("WRITES-1")
class LosesEmptyWrites(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, [(channel, value) for channel, value in writes if value], task_id, task_path)


@breaks("WRITES-1")
class ShowsTheLastTaskOnly(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None or not found.pending_writes:
            return found
        last = found.pending_writes[-1][0]
        return found._replace(pending_writes=[write for write in found.pending_writes if write[0] == last])


@breaks("WRITES-1")
class ShowsAThousandTasks(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None:
            return None
        tasks = list(dict.fromkeys(task for task, _, _ in found.pending_writes))[:1000]
        return found._replace(pending_writes=[write for write in found.pending_writes if write[0] in tasks])


@breaks("WRITES-2", "LIFECYCLE-4")
class DropsWritesBeforeTheirCheckpoint(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if self.get_tuple(config) is not None:
            super().put_writes(config, writes, task_id, task_path)


@breaks("WRITES-2", "LIFECYCLE-4")
class ResetsWritesWhenItPuts(SQLiteSaver):
    """As the Redis saver did: its `put` records that there are no writes."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        execute(self, "DELETE FROM writes WHERE checkpoint_id = ?", checkpoint["id"])
        return super().put(config, checkpoint, metadata, new_versions)


@breaks("WRITES-3", "LIFECYCLE-4")
class ReplacesOrdinaryWrites(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        checkpoint_id = config["configurable"]["checkpoint_id"]
        execute(self, "DELETE FROM writes WHERE checkpoint_id = ? AND task_id = ?", checkpoint_id, task_id)
        super().put_writes(config, writes, task_id, task_path)


@breaks("WRITES-3")
class IdentifiesWritesByTheirChannel(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        first_of_channel = dict(reversed(writes))
        super().put_writes(config, list(first_of_channel.items())[::-1], task_id, task_path)


@breaks("WRITES-3")
class SharesPositionsBetweenTasks(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, "task-1", task_path)


@breaks("WRITES-4", "LIFECYCLE-4")
class KeepsTheFirstSpecialWrite(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        kept = _special(self, config)
        super().put_writes(
            config, [(key, kept.get((task_id, key), value)) for key, value in writes], task_id, task_path
        )


@breaks("WRITES-4")
class ReplacesSpecialWritesOfOtherChannels(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if any(channel in WRITES_IDX_MAP for channel, _ in writes):
            checkpoint_id = config["configurable"]["checkpoint_id"]
            special = "checkpoint_id = ? AND task_id = ? AND idx < 0"
            execute(self, f"DELETE FROM writes WHERE {special}", checkpoint_id, task_id)
        super().put_writes(config, writes, task_id, task_path)


@breaks("WRITES-5")
class TreatsAMixedCallAsOrdinary(SQLiteSaver):
    """As the Postgres saver does: it chooses one statement for the whole call."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if not all(channel in WRITES_IDX_MAP for channel, _ in writes):
            kept = _special(self, config)
            writes = [(channel, kept.get((task_id, channel), value)) for channel, value in writes]
        super().put_writes(config, writes, task_id, task_path)


@breaks("WRITES-6")
class DeduplicatesByTask(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        found = self.get_tuple(config)
        if found is None or task_id not in {task for task, _, _ in found.pending_writes}:
            super().put_writes(config, writes, task_id, task_path)


@breaks("WRITES-7")
class OrdersWritesByTask(SQLiteSaver):
    """As savers before langgraph-checkpoint 4.3 did."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id)


@breaks("WRITES-7")
class OrdersPositionsAsText(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None:
            return None
        numbered = [(write[0], str(number), write) for number, write in enumerate(found.pending_writes)]
        return found._replace(pending_writes=[write for _, _, write in sorted(numbered, key=lambda item: item[:2])])


@breaks("WRITES-8")
class ShowsTheParentsWritesToo(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        parent = found and found.parent_config and super().get_tuple(found.parent_config)
        return found._replace(pending_writes=[*parent.pending_writes, *found.pending_writes]) if parent else found


@breaks("WRITES-8")
class WritesToEveryNamespace(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        for found in list(self.list({"configurable": {"thread_id": config["configurable"]["thread_id"]}})):
            if found.config["configurable"]["checkpoint_id"] == config["configurable"]["checkpoint_id"]:
                super().put_writes(found.config, writes, task_id, task_path)


@breaks("WRITES-9")
class RefusesNothingToWrite(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        if not writes:
            raise ValueError("a batch must not be empty")
        super().put_writes(config, writes, task_id, task_path)


def _special(saver: SQLiteSaver, config: Any) -> dict[tuple[str, str], Any]:
    found = saver.get_tuple(config)
    writes = found.pending_writes if found else []
    return {(task, channel): value for task, channel, value in writes if channel in WRITES_IDX_MAP}
