"""Savers that break PUT clauses."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


@breaks("PUT-1")
class ReturnsTheParentsConfig(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        super().put(config, checkpoint, metadata, new_versions)
        return config


@breaks("PUT-1")
class ReturnsAConfigWithoutNamespace(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named = super().put(config, checkpoint, metadata, new_versions)["configurable"]
        return {"configurable": {key: named[key] for key in ("thread_id", "checkpoint_id")}}


@breaks("PUT-2")
class StoresARepeatedPutAgain(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        again = {**checkpoint, "id": f"{checkpoint['id'][:-12]}{uuid.uuid4().hex[:12]}"}
        super().put(config, again, metadata, new_versions)
        return stored


@breaks("PUT-3", "LIFECYCLE-4")
class ForgetsTheParent(SQLiteSaver):
    """As the S3 saver did."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named = {key: value for key, value in config["configurable"].items() if key != "checkpoint_id"}
        return super().put({**config, "configurable": named}, checkpoint, metadata, new_versions)


@breaks("PUT-3", "LIFECYCLE-4")
class TakesTheLatestForTheParent(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        latest = self.get_tuple({"configurable": {**config["configurable"], "checkpoint_id": None}})
        parent = latest.checkpoint["id"] if latest else checkpoint["id"]
        named = {**config["configurable"], "checkpoint_id": parent}
        return super().put({**config, "configurable": named}, checkpoint, metadata, new_versions)


@breaks("PUT-3")
class NamesAParentInTheRoot(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is None or found.parent_config is None:
            return found
        named = {**found.parent_config["configurable"], "checkpoint_ns": ""}
        return found._replace(parent_config={"configurable": named})


@breaks("PUT-4")
class IgnoresTheConfigsMetadata(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return super().put({"configurable": config["configurable"]}, checkpoint, metadata, new_versions)


@breaks("PUT-4")
class LetsTheConfigWin(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        entries = {key: value for key, value in config["configurable"].items() if key in metadata}
        return super().put(config, checkpoint, {**metadata, **entries}, new_versions)


@breaks("PUT-5", "LIFECYCLE-4")
class ForgetsUnchangedChannels(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        checkpoint = {**checkpoint, "channel_versions": dict(new_versions)}
        return super().put(config, checkpoint, metadata, new_versions)


@breaks("PUT-6")
class FillsAbsentChannelsWithNone(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is not None:
            for channel in found.checkpoint["channel_versions"]:
                found.checkpoint["channel_values"].setdefault(channel, None)
        return found


@breaks("PUT-6")
class DropsChannelsThatHoldNone(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        values = {key: value for key, value in checkpoint["channel_values"].items() if value is not None}
        return super().put(config, {**checkpoint, "channel_values": values}, metadata, new_versions)


@breaks("PUT-7")
class NeedsANamespace(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        config["configurable"]["checkpoint_ns"]
        return super().get_tuple(config)


@breaks("PUT-8")
class TakesTheValuesOutOfTheCheckpoint(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        checkpoint.pop("channel_values")
        return stored


@breaks("PUT-8")
class MergesMetadataInPlace(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        metadata.update(config.get("metadata") or {}, team=config["configurable"].get("team"))
        return super().put(config, checkpoint, metadata, new_versions)


@breaks("PUT-8")
class FillsInTheConfigThatItIsAskedWith(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        config["configurable"].update(found.config["configurable"] if found else {})
        return found


@breaks("PUT-8")
class UsesUpTheFilter(SQLiteSaver):
    def list(self, config: Any, *, filter: Any = None, **options: Any) -> Iterator[Any]:
        wanted = dict(filter or {})
        while filter:
            filter.popitem()
        yield from super().list(config, filter=wanted, **options)


@breaks("PUT-9")
class StoresTheCheckpointBeforeItsValues(SQLiteSaver):
    """Like savers without transactions."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        super().put(config, {**checkpoint, "channel_values": {}}, metadata, new_versions)
        return super().put(config, checkpoint, metadata, new_versions)
