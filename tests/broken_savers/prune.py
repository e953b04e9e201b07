"""Savers that break PRUNE clauses."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from langgraph.checkpoint.base import BaseCheckpointSaver

from checkpoint_base import ConflictError, SQLiteSaver
from checkpoint_base.metadata import matches
from tests.broken_savers import breaks
from tests.broken_savers.writes import execute

_NS = "checkpoint_ns"


@breaks("PRUNE-1")
class KeepsOneCheckpointOfAThread(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            latest: Any = self.get_tuple({"configurable": {"thread_id": thread_id}})
            self.delete_thread(thread_id)
            if latest:
                self.put(latest.config, latest.checkpoint, latest.metadata, latest.checkpoint["channel_versions"])
                for task_id, channel, value in latest.pending_writes:
                    self.put_writes(latest.config, [(channel, value)], task_id)


@breaks("PRUNE-1", "PRUNE-5")
class KeepsTheLatestWithoutItsWrites(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            everything = list(self.list({"configurable": {"thread_id": thread_id}}))
            self.delete_thread(thread_id)
            for found in {found.config["configurable"]["checkpoint_ns"]: found for found in everything[::-1]}.values():
                versions = found.checkpoint["channel_versions"]
                present = {channel: versions[channel] for channel in found.checkpoint["channel_values"]}
                self.put(found.config, found.checkpoint, found.metadata, present)


@breaks("PRUNE-1")
class RemovesValuesOfOlderCheckpoints(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        super().prune(thread_ids, strategy=strategy)
        for thread_id in thread_ids:
            latest: Any = self.get_tuple({"configurable": {"thread_id": thread_id}})
            newest = max(latest.checkpoint["channel_versions"].values(), default="") if latest else ""
            if latest:
                kept = {c: v for c, v in latest.checkpoint["channel_versions"].items() if v == newest}
                self.delete_thread(thread_id)
                self.put(latest.config, latest.checkpoint, latest.metadata, kept)


@breaks("PRUNE-1")
class RemovesLargeValuesOfSubgraphs(SQLiteSaver):
    """Like a saver that looks in the root's namespace alone for what refers to a piece of a value."""

    _pruned: ClassVar[set[str]] = set()  # all savers share it, as they share the file

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        super().prune(thread_ids, strategy=strategy)
        self._pruned.update(thread_ids)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found and found.config["configurable"]["thread_id"] in self._pruned and config["configurable"].get(_NS):
            values = found.checkpoint["channel_values"]
            found.checkpoint["channel_values"] = {c: value for c, value in values.items() if len(repr(value)) < 10_000}
        return found


@breaks("PRUNE-1")
class LeavesWhatItRemovesInTheIndexOfAll(SQLiteSaver):
    _left: ClassVar[list[Any]] = []  # all savers share it, as they share the file

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        before = [each for id_ in thread_ids for each in self.list({"configurable": {"thread_id": id_}})]
        super().prune(thread_ids, strategy=strategy)
        self._left.extend(found for found in before if self.get_tuple(found.config) is None)

    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Any:
        yield from super().list(config, filter=filter, **options)
        if config is None:
            yield from (found for found in self._left if matches(found.metadata, filter))


@breaks("PRUNE-1")
class FindsWhatDeltaChannelsAreRebuiltFrom(SQLiteSaver):
    _kept: ClassVar[dict[str, Any]] = {}  # all savers share it, as they share the file

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        before = [each for id_ in thread_ids for each in self.list({"configurable": {"thread_id": id_}})]
        super().prune(thread_ids, strategy=strategy)
        counts = "counters_since_delta_snapshot"
        self._kept.update({found.checkpoint["id"]: found for found in before if counts in found.metadata})

    def get_tuple(self, config: Any) -> Any:
        return super().get_tuple(config) or self._kept.get(config["configurable"].get("checkpoint_id"))


@breaks("PRUNE-7")
class NeverShowsAgainWhatWasPruned(SQLiteSaver):
    _gone: ClassVar[set[str]] = set()  # all savers share it, as they share the file

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        before = [each for id_ in thread_ids for each in self.list({"configurable": {"thread_id": id_}})]
        super().prune(thread_ids, strategy=strategy)
        self._gone.update(found.checkpoint["id"] for found in before if self.get_tuple(found.config) is None)

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return None if found and found.checkpoint["id"] in self._gone else found


@breaks("PRUNE-9")
class KeepsWhatEveryCallStored(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        everything = [each for id_ in thread_ids for each in self.list({"configurable": {"thread_id": id_}})]
        super().prune(thread_ids, strategy=strategy)
        if strategy == "keep_latest":
            for found in {
                str(each.config["configurable"]["checkpoint_ns"]): each for each in everything[::-1]
            }.values():
                if self.get_tuple(found.config) is None:
                    self.put(found.config, found.checkpoint, found.metadata, found.checkpoint["channel_versions"])


@breaks("PRUNE-2", "LIFECYCLE-4")
class KnowsOneStrategy(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest", **options: Any) -> None:
        super().prune(thread_ids, **options)


@breaks("PRUNE-3")
class PrunesEveryThread(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        super().prune([thread.thread_id for thread in self.threads()], strategy=strategy)


@breaks("PRUNE-3")
class CannotPruneAMissingThread(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            if not list(self.threads(thread_id=thread_id)):
                raise KeyError(thread_id)
        super().prune(thread_ids, strategy=strategy)


@breaks("PRUNE-4")
class TakesAnUnknownStrategyForDelete(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        super().prune(thread_ids, strategy=strategy if strategy == "keep_latest" else "delete")


@breaks("PRUNE-4")
class DeletesBeforeItRefusesAStrategy(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest", **options: Any) -> None:
        super().prune(thread_ids, **options)
        super().prune(thread_ids, strategy=strategy)


@breaks("PRUNE-6", "RUNS-4")
class RebuildsFromListedCheckpointsAlone(SQLiteSaver):
    """Like any saver that removes ancestors, and leaves the history to langgraph-checkpoint's own walk."""

    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        return BaseCheckpointSaver.get_delta_channel_history(self, config=config, channels=channels)


@breaks("PRUNE-7")
class GoesOnWithoutTheParent(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        try:
            return super().put(config, checkpoint, metadata, new_versions)
        except ConflictError:
            alone = {"configurable": {**config["configurable"], "checkpoint_id": None}}
            return super().put(alone, checkpoint, metadata, new_versions)


@breaks("PRUNE-7")
class TrustsThatUnchangedValuesAreStill(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        changed = {channel: checkpoint["channel_values"][channel] for channel in new_versions}
        return super().put(config, {**checkpoint, "channel_values": changed}, metadata, new_versions)


@breaks("PRUNE-7")
class ReadsTheLatestAndThenRemovesTheRest(SQLiteSaver):
    """What is put in between is removed, too."""

    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        for thread_id in thread_ids:
            latest = self.get_tuple({"configurable": {"thread_id": thread_id}})
            if latest:
                time.sleep(0.2)
                remove = "DELETE FROM checkpoints WHERE checkpoint_id <> ?"
                execute(self, remove, latest.config["configurable"]["checkpoint_id"])


@breaks("PRUNE-8", "LIFECYCLE-4")
class KeepsTheLatestWhateverItIsTold(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest", keep: int = 1) -> None:
        super().prune(thread_ids, strategy=strategy, keep=min(keep, 1))


@breaks("PRUNE-8")
class CountsTheNamespacesOfAThreadTogether(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest", keep: int = 1) -> None:
        super().prune(thread_ids, strategy=strategy, keep=keep)
        for thread_id in thread_ids:
            kept = list(self.list({"configurable": {"thread_id": thread_id}}, limit=keep))
            self.delete_thread(thread_id)
            for found in kept:
                self.put(found.config, found.checkpoint, found.metadata, found.checkpoint["channel_versions"])
                for task_id, channel, value in found.pending_writes or ():
                    self.put_writes(found.config, [(channel, value)], task_id)


@breaks("PRUNE-8")
class TakesNoneForOne(SQLiteSaver):
    def prune(self, thread_ids: Any, *, strategy: str = "keep_latest", keep: int = 1) -> None:
        super().prune(thread_ids, strategy=strategy, keep=max(keep, 1))
