"""Savers that break DELETE clauses."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, ClassVar

from checkpoint_base import SQLiteSaver
from checkpoint_base.metadata import matches
from tests.broken_savers import breaks


@breaks("DELETE-1", "LIFECYCLE-4")
class KeepsSubgraphsOfDeletedThreads(SQLiteSaver):
    def delete_thread(self, thread_id: str) -> None:
        everything = list(self.list({"configurable": {"thread_id": thread_id}}))
        super().delete_thread(thread_id)
        for found in everything:
            if found.config["configurable"]["checkpoint_ns"]:
                self.put(found.config, found.checkpoint, found.metadata, found.checkpoint["channel_versions"])


@breaks("DELETE-1")
class KeepsWritesOfDeletedThreads(SQLiteSaver):
    def delete_thread(self, thread_id: str) -> None:
        everything = list(self.list({"configurable": {"thread_id": thread_id}}))
        super().delete_thread(thread_id)
        for found in everything:
            for task_id, channel, value in found.pending_writes or ():
                self.put_writes(found.config, [(channel, value)], task_id)


@breaks("DELETE-1")
class DeletesThreadsThatHaveCheckpoints(SQLiteSaver):
    """Writes that came before their checkpoint stay."""

    def delete_thread(self, thread_id: str) -> None:
        if list(self.list({"configurable": {"thread_id": thread_id}}, limit=1)):
            super().delete_thread(thread_id)


@breaks("DELETE-1")
class LeavesDeletedThreadsInTheIndexOfAll(SQLiteSaver):
    _left: ClassVar[list[Any]] = []  # all savers share it, as they share the file

    def delete_thread(self, thread_id: str) -> None:
        self._left.extend(self.list({"configurable": {"thread_id": thread_id}}))
        super().delete_thread(thread_id)

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Any:
        yield from super().list(config, filter=filter, **options)
        if config is None:
            yield from (found for found in self._left if matches(found.metadata, filter))


@breaks("DELETE-1")
class LeavesQuestionsOfDeletedThreads(SQLiteSaver):
    _left: ClassVar[list[Any]] = []  # all savers share it, as they share the file

    def delete_thread(self, thread_id: str) -> None:
        self._left.extend(super().interrupts(thread_id=thread_id))
        super().delete_thread(thread_id)

    def interrupts(self, *, thread_id: Any = None, metadata: Any = None, **options: Any) -> Any:
        yield from super().interrupts(thread_id=thread_id, metadata=metadata, **options)
        if thread_id is None:
            yield from (waiting for waiting in self._left if matches(waiting.metadata, metadata))


@breaks("DELETE-1")
class DeletesAThousandCheckpoints(SQLiteSaver):
    """As one request to S3 does."""

    def delete_thread(self, thread_id: str) -> None:
        config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        left = [*self.list(config)][1000:]
        super().delete_thread(thread_id)
        for found in left:
            self.put(config, found.checkpoint, found.metadata, found.checkpoint["channel_versions"])


@breaks("DELETE-2")
class DeletesByPattern(SQLiteSaver):
    """Like a saver that deletes Redis keys by ``SCAN MATCH``."""

    def delete_thread(self, thread_id: str) -> None:
        for thread in list(self.threads()):
            if fnmatchcase(thread.thread_id, thread_id):
                super().delete_thread(thread.thread_id)
        super().delete_thread(thread_id)


@breaks("DELETE-2")
class DeletesByPrefix(SQLiteSaver):
    def delete_thread(self, thread_id: str) -> None:
        for thread in list(self.threads()):
            if thread.thread_id.startswith(thread_id):
                super().delete_thread(thread.thread_id)


@breaks("DELETE-3")
class CannotDeleteAMissingThread(SQLiteSaver):
    def delete_thread(self, thread_id: str) -> None:
        if not list(self.threads(thread_id=thread_id)):
            raise KeyError(thread_id)
        super().delete_thread(thread_id)


@breaks("DELETE-4")
class HidesDeletedThreadsUntilTheyAreUsedAgain(SQLiteSaver):
    _hidden: set[str] = set()  # noqa: RUF012  # all savers share it, as they share the file

    def delete_thread(self, thread_id: str) -> None:
        self._hidden.add(thread_id)

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self._hidden.discard(config["configurable"]["thread_id"])
        return super().put(config, checkpoint, metadata, new_versions)

    def get_tuple(self, config: Any) -> Any:
        return None if config["configurable"]["thread_id"] in self._hidden else super().get_tuple(config)

    def list(self, config: Any, **options: Any) -> Any:
        return iter(()) if config["configurable"]["thread_id"] in self._hidden else super().list(config, **options)
