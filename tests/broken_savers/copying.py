"""Savers that break COPY clauses."""

from __future__ import annotations

from typing import Any, ClassVar

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


def _copy(saver: SQLiteSaver, found: Any, target: str, *, writes: bool = True) -> None:
    """Copy a checkpoint through the public interface."""
    configurable = {**found.config["configurable"], "thread_id": target}
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    stored = saver.put(
        {"configurable": {**configurable, "checkpoint_id": parent}},
        found.checkpoint,
        found.metadata,
        {channel: found.checkpoint["channel_versions"][channel] for channel in found.checkpoint["channel_values"]},
    )
    for number, (task_id, channel, value) in enumerate(found.pending_writes if writes else ()):
        saver.put_writes(stored, [(channel, value)], task_id, f"{number:06}")


@breaks("COPY-1", "COPY-4")
class CopiesTheLatestCheckpointsAlone(SQLiteSaver):
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        everything = list(self.list({"configurable": {"thread_id": source_thread_id}}))
        for found in {found.config["configurable"]["checkpoint_ns"]: found for found in everything[::-1]}.values():
            _copy(self, found, target_thread_id)


@breaks("COPY-1", "COPY-4")
class CopiesCheckpointsWithoutTheirWrites(SQLiteSaver):
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        for found in list(self.list({"configurable": {"thread_id": source_thread_id}}))[::-1]:
            _copy(self, found, target_thread_id, writes=False)


@breaks("COPY-1")
class LeavesCopiesOutOfTheIndexOfAll(SQLiteSaver):
    _copies: ClassVar[set[str]] = set()  # all savers share it, as they share the file

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        super().copy_thread(source_thread_id, target_thread_id)
        self._copies.add(target_thread_id)

    def list(self, config: Any, **options: Any) -> Any:
        for found in super().list(config, **options):
            if config is not None or found.config["configurable"]["thread_id"] not in self._copies:
                yield found


@breaks("COPY-2")
class CopiesByReference(SQLiteSaver):
    _copies: dict[str, str] = {}  # noqa: RUF012  # all savers share it, as they share the file

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self._copies[target_thread_id] = source_thread_id

    def _resolved(self, config: Any) -> Any:
        thread_id = config["configurable"]["thread_id"]
        return {
            **config,
            "configurable": {**config["configurable"], "thread_id": self._copies.get(thread_id, thread_id)},
        }

    def get_tuple(self, config: Any) -> Any:
        return super().get_tuple(self._resolved(config))

    def list(self, config: Any, **options: Any) -> Any:
        return super().list(self._resolved(config), **options)

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return super().put(self._resolved(config), checkpoint, metadata, new_versions)


@breaks("COPY-3")
class CannotCopyAMissingThread(SQLiteSaver):
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        if not list(self.threads(thread_id=source_thread_id)):
            raise KeyError(source_thread_id)
        super().copy_thread(source_thread_id, target_thread_id)


@breaks("COPY-3", "LIFECYCLE-4")
class RefusesToCopyAgain(SQLiteSaver):
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        if list(self.threads(thread_id=target_thread_id)):
            raise ValueError(f"{target_thread_id} exists")
        super().copy_thread(source_thread_id, target_thread_id)


@breaks("COPY-3")
class ReplacesTheTarget(SQLiteSaver):
    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        self.delete_thread(target_thread_id)
        super().copy_thread(source_thread_id, target_thread_id)
