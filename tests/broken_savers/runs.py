"""Savers that break RUNS clauses."""

from __future__ import annotations

from typing import Any, ClassVar

from checkpoint_base import SQLiteSaver
from checkpoint_base.metadata import matches
from tests.broken_savers import breaks


@breaks("RUNS-1")
class DeletesRunsOfOneThread(SQLiteSaver):
    def delete_for_runs(self, run_ids: Any) -> None:
        threads = {}
        for run_id in run_ids:
            found = next(self.list(None, filter={"run_id": run_id}), None)
            threads[run_id] = found and found.config["configurable"]["thread_id"]
        spared = [c for r in run_ids for c in self.list(None, filter={"run_id": r}) if _thread(c) != threads[r]]
        super().delete_for_runs(run_ids)
        for checkpoint in spared:
            self.put(checkpoint.config, checkpoint.checkpoint, checkpoint.metadata, {})


@breaks("RUNS-1")
class KeepsWritesOfDeletedRuns(SQLiteSaver):
    def delete_for_runs(self, run_ids: Any) -> None:
        everything = [found for run_id in run_ids for found in self.list(None, filter={"run_id": run_id})]
        super().delete_for_runs(run_ids)
        for found in everything:
            for task_id, channel, value in found.pending_writes or ():
                self.put_writes(found.config, [(channel, value)], task_id)


@breaks("RUNS-1")
class DoesNotFindTheRunsOfCopies(SQLiteSaver):
    _copies: ClassVar[set[str]] = set()  # all savers share it, as they share the file

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        super().copy_thread(source_thread_id, target_thread_id)
        self._copies.add(target_thread_id)

    def delete_for_runs(self, run_ids: Any) -> None:
        found = [found for run_id in run_ids for found in self.list(None, filter={"run_id": run_id})]
        super().delete_for_runs(run_ids)
        for spared in (one for one in found if _thread(one) in self._copies):
            self.put(spared.config, spared.checkpoint, spared.metadata, {})


@breaks("RUNS-1")
class LeavesDeletedRunsInTheIndexOfAll(SQLiteSaver):
    _left: ClassVar[list[Any]] = []  # all savers share it, as they share the file

    def delete_for_runs(self, run_ids: Any) -> None:
        self._left.extend([found for run_id in run_ids for found in self.list(None, filter={"run_id": run_id})])
        super().delete_for_runs(run_ids)

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Any:
        yield from super().list(config, filter=filter, **options)
        if config is None:
            yield from (found for found in self._left if matches(found.metadata, filter))


@breaks("RUNS-2", "LIFECYCLE-4")
class DeletesThreadsOfRuns(SQLiteSaver):
    def delete_for_runs(self, run_ids: Any) -> None:
        for run_id in run_ids:
            for found in list(self.list(None, filter={"run_id": run_id})):
                self.delete_thread(_thread(found))


@breaks("RUNS-2")
class DeletesValuesThatDeletedRunsStored(SQLiteSaver):
    """Like a saver whose values belong to checkpoints instead of versions."""

    _lost: set[Any] = set()  # noqa: RUF012  # all savers share it, as they share the file

    def delete_for_runs(self, run_ids: Any) -> None:
        for found in (found for run_id in run_ids for found in self.list(None, filter={"run_id": run_id})):
            self._lost.update((_thread(found), *version) for version in found.checkpoint["channel_versions"].items())
        super().delete_for_runs(run_ids)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        for channel, version in found.checkpoint["channel_versions"].items() if found else ():
            if (_thread(found), channel, version) in self._lost:
                found.checkpoint["channel_values"].pop(channel, None)
        return found


@breaks("RUNS-3")
class CannotDeleteAnUnknownRun(SQLiteSaver):
    def delete_for_runs(self, run_ids: Any) -> None:
        for run_id in run_ids:
            if not list(self.list(None, filter={"run_id": run_id})):
                raise KeyError(run_id)
        super().delete_for_runs(run_ids)


@breaks("RUNS-3")
class TakesNoRunsForCheckpointsWithoutOne(SQLiteSaver):
    def delete_for_runs(self, run_ids: Any) -> None:
        super().delete_for_runs(run_ids)
        if not run_ids:
            for found in list(self.list(None)):
                if "run_id" not in found.metadata:
                    self.delete_thread(_thread(found))


def _thread(found: Any) -> str:
    return str(found.config["configurable"]["thread_id"])
