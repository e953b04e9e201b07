"""Savers that break GET clauses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks
from tests.broken_savers.writes import execute


@breaks("GET-1")
class RaisesForWhatIsMissing(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None:
            raise KeyError(config["configurable"]["thread_id"])
        return found


@breaks("GET-1")
class GivesTheLatestForAMissingId(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        return super().get_tuple(config) or super().get_tuple(_without_id(config))


@breaks("GET-2")
class TakesTheLastPutForTheLatest(SQLiteSaver):
    """As the Redis saver did."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        pointer = {"id": "latest", "ts": checkpoint["id"], "channel_values": {}, "channel_versions": {}}
        place = {**stored["configurable"], "checkpoint_ns": f"latest of {stored['configurable']['checkpoint_ns']}"}
        super().put({"configurable": {**place, "checkpoint_id": None}}, pointer, {}, {})
        return stored

    def get_tuple(self, config: Any) -> Any:
        named = config["configurable"]
        if named.get("checkpoint_id"):
            return super().get_tuple(config)
        pointer = super().get_tuple({"configurable": {**named, "checkpoint_ns": f"latest of {named['checkpoint_ns']}"}})
        last = pointer and pointer.checkpoint["ts"]
        return super().get_tuple({"configurable": {**named, "checkpoint_id": last}})


@breaks("GET-2")
class ComparesIdsAsNumbers(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None or config["configurable"].get("checkpoint_id"):
            return found
        return max(self.list(_without_id(config)), key=lambda listed: int(listed.checkpoint["id"].replace("-", ""), 16))


@breaks("GET-2")
class ComparesIdsWithoutCase(SQLiteSaver):
    """Like a database whose collation is that of a language."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None or config["configurable"].get("checkpoint_id"):
            return found
        return max(self.list(_without_id(config)), key=lambda listed: listed.checkpoint["id"].casefold())


@breaks("GET-2")
class TakesTheLatestOfTheThread(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        named = config["configurable"]
        for latest in self.list({"configurable": {"thread_id": named["thread_id"]}}, limit=1):
            named = {"checkpoint_id": latest.checkpoint["id"], **named}
        return super().get_tuple({"configurable": named})


@breaks("GET-3", "FORK-3")
class AlwaysGivesTheLatest(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        return super().get_tuple(_without_id(config))


@breaks("GET-4")
class TurnsVersionsIntoText(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is not None:
            versions = found.checkpoint["channel_versions"]
            versions.update({channel: str(version) for channel, version in versions.items()})
        return found


@breaks("GET-4")
class ForgetsVersionsSeen(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return super().put(config, {**checkpoint, "versions_seen": {}}, metadata, new_versions)


@breaks("GET-5")
class LooksInTheParentsNamespaceToo(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        named = config["configurable"]
        parents = named["checkpoint_ns"].rpartition("|")[0]
        return super().get_tuple(config) or super().get_tuple({"configurable": {**named, "checkpoint_ns": parents}})


@breaks("GET-5")
class SharesValuesBetweenNamespaces(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        newest = "(SELECT root FROM channel_values ORDER BY namespace DESC LIMIT 1)"
        execute(self, f"UPDATE channel_values SET root = {newest}")
        return stored


@breaks("GET-6")
class TellsTheTimeOfStoring(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return super().put(config, {**checkpoint, "ts": datetime.now(UTC).isoformat()}, metadata, new_versions)


@breaks("GET-6")
class ForgetsWhichChannelsWereUpdated(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is not None:
            found.checkpoint["updated_channels"] = None
        return found


def _without_id(config: Any) -> Any:
    return {"configurable": {**config["configurable"], "checkpoint_id": None}}
