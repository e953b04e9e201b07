"""Savers that break DELTA clauses."""

from __future__ import annotations

from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


@breaks("DELTA-1")
class RebuildsFromTheParentAlone(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        found = self.get_tuple(config)
        parent = self.get_tuple(found.parent_config) if found and found.parent_config else None
        writes = parent.pending_writes if parent else []
        return {channel: {"writes": [w for w in writes or () if w[1] == channel]} for channel in channels}


@breaks("DELTA-2")
class OrdersHistoryByTask(SQLiteSaver):
    """As langgraph-checkpoint did before 4.3."""

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id, "")


@breaks("DELTA-2")
class GivesTheNewestWritesFirst(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        history = super().get_delta_channel_history(config=config, channels=channels)
        return {channel: {**found, "writes": found["writes"][::-1]} for channel, found in history.items()}


@breaks("DELTA-2")
class AddsTheCheckpointsOwnWrites(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        history = super().get_delta_channel_history(config=config, channels=channels)
        found = self.get_tuple(config)
        for write in (found.pending_writes or ()) if found else ():
            if write[1] in history:
                history[write[1]]["writes"].append(write)
        return history


@breaks("DELTA-3")
class CutsLongValuesInTheHistory(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        history = super().get_delta_channel_history(config=config, channels=channels)
        for found in history.values():
            found["writes"] = [(*write[:2], write[2][:50]) for write in found["writes"] if isinstance(write[2], list)]
        return history


@breaks("DELTA-3")
class HasNoSeed(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        history = super().get_delta_channel_history(config=config, channels=channels)
        return {channel: {"writes": found["writes"]} for channel, found in history.items()}


@breaks("DELTA-3")
class TakesAnEmptySeedForNone(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        history = super().get_delta_channel_history(config=config, channels=channels)
        for found in history.values():
            if "seed" in found and not found["seed"]:
                del found["seed"]
        return history


@breaks("DELTA-3")
class TakesTheCheckpointsOwnValueForTheSeed(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        history: Any = super().get_delta_channel_history(config=config, channels=channels)
        found = self.get_tuple(config)
        for channel in channels:
            if found and channel in found.checkpoint["channel_values"]:
                history[channel] = {"seed": found.checkpoint["channel_values"][channel], "writes": []}
        return history


@breaks("DELTA-4")
class WalksAListingInsteadOfTheParents(SQLiteSaver):
    def get_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        space = {"configurable": {k: v for k, v in config["configurable"].items() if k != "checkpoint_id"}}
        history: Any = {channel: {"writes": []} for channel in channels}
        for ancestor in self.list(space, before=config if "checkpoint_id" in config["configurable"] else None):
            for channel in (channel for channel in channels if "seed" not in history[channel]):
                writes = [write for write in ancestor.pending_writes or () if write[1] == channel]
                history[channel]["writes"][:0] = writes
                if channel in ancestor.checkpoint["channel_values"]:
                    history[channel]["seed"] = ancestor.checkpoint["channel_values"][channel]
        return history
