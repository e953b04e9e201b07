"""Savers that break FIDELITY clauses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from pydantic import BaseModel

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


class _ChangesValues(SQLiteSaver):
    """Changes every value of a state that is put, at every depth of its lists and dicts."""

    change: ClassVar[Callable[[Any], Any]]

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        values = _mapped(checkpoint["channel_values"], type(self).change)
        return super().put(config, {**checkpoint, "channel_values": values}, metadata, new_versions)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if type(value) is list:
        return [_mapped(item, change) for item in value]
    if type(value) is dict:
        return {key: _mapped(item, change) for key, item in value.items()}
    return change(value)


@breaks("FIDELITY-1")
class RemovesNUL(_ChangesValues):
    change = staticmethod(lambda value: value.replace("\x00", "") if isinstance(value, str) else value)


@breaks("FIDELITY-1")
class StoresWholeFloatsAsIntegers(_ChangesValues):
    change = staticmethod(lambda value: int(value) if type(value) is float and value.is_integer() else value)


@breaks("FIDELITY-1")
class StoresNaNAsNone(_ChangesValues):
    change = staticmethod(lambda value: value if value == value else None)


@breaks("FIDELITY-1")
class RefusesNULButStoresAnEmptyCheckpoint(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        refused = any(isinstance(value, str) and "\x00" in value for value in checkpoint["channel_values"].values())
        stored = super().put(
            config, {**checkpoint, "channel_values": {}} if refused else checkpoint, metadata, new_versions
        )
        if refused:
            raise ValueError("texts must not hold NUL")
        return stored


@breaks("FIDELITY-2")
class StoresTuplesAsLists(_ChangesValues):
    change = staticmethod(lambda value: list(value) if type(value) is tuple else value)


@breaks("FIDELITY-2")
class StoresKeysAsText(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        values = {
            channel: {str(key): item for key, item in value.items()} if type(value) is dict else value
            for channel, value in checkpoint["channel_values"].items()
        }
        return super().put(config, {**checkpoint, "channel_values": values}, metadata, new_versions)


@breaks("FIDELITY-3")
class StoresEnumMembersAsTheirValues(_ChangesValues):
    change = staticmethod(lambda value: value.value if isinstance(value, Enum) else value)


@breaks("FIDELITY-3")
class StoresDatesAsText(_ChangesValues):
    change = staticmethod(lambda value: value.isoformat() if isinstance(value, datetime) else value)


@breaks("FIDELITY-4")
class StoresModelsAsDicts(_ChangesValues):
    change = staticmethod(
        lambda value: (
            value.model_dump() if isinstance(value, BaseModel) and not isinstance(value, BaseMessage) else value
        )
    )


@breaks("FIDELITY-5")
class StoresTuplesInWritesAsLists(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        changed = [(channel, list(value) if type(value) is tuple else value) for channel, value in writes]
        super().put_writes(config, changed, task_id, task_path)


@breaks("FIDELITY-6")
class RemovesNULFromMetadata(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        plain = _mapped(dict(metadata), RemovesNUL.change)
        return super().put(config, checkpoint, plain, new_versions)


@breaks("FIDELITY-7")
class JoinsChannelsWithVersions(SQLiteSaver):
    """Channel "a1" at version "1.1" has the key of channel "a" at version "11.1"."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is not None:
            versions, values = found.checkpoint["channel_versions"], found.checkpoint["channel_values"]
            by_key = {f"{channel}{versions[channel]}": value for channel, value in values.items()}
            values.update({channel: by_key[f"{channel}{versions[channel]}"] for channel in values})
        return found


@breaks("FIDELITY-7")
class ReplacesBackslashesInChannelNames(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        parts = {
            part: {channel.replace("\\", "/"): item for channel, item in checkpoint[part].items()}
            for part in ("channel_values", "channel_versions")
        }
        versions = {channel.replace("\\", "/"): version for channel, version in new_versions.items()}
        return super().put(config, {**checkpoint, **parts}, metadata, versions)


@breaks("FIDELITY-8")
class CutsLongTexts(_ChangesValues):
    change = staticmethod(lambda value: value[: 2**20] if isinstance(value, str) else value)


@breaks("FIDELITY-8")
class AppendsOnly(SQLiteSaver):
    """Takes a list for an extension of the last one if it is at least as long and has the same first element."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        last = self.__dict__.setdefault("last", {})
        values = dict(checkpoint["channel_values"])
        for channel, value in values.items():
            known = last.get(channel, [])
            if isinstance(value, list) and known and len(value) >= len(known) and value[0] == known[0]:
                values[channel] = known + value[len(known) :]
            last[channel] = values[channel]
        return super().put(config, {**checkpoint, "channel_values": values}, metadata, new_versions)


class _Remembers(SQLiteSaver):
    """Keeps the given objects by their checkpoint's config, for all savers of the process."""

    kept: ClassVar[dict[Any, Any]]

    def __init_subclass__(cls) -> None:
        cls.kept = {}

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        stored = super().put(config, checkpoint, metadata, new_versions)
        self.kept[tuple(stored["configurable"].values())] = (checkpoint["channel_values"], metadata)
        return stored

    def given(self, found: Any) -> Any:
        return self.kept.get(tuple(found.config["configurable"].values()))


@breaks("FIDELITY-9")
class KeepsTheGivenValues(_Remembers):
    """Like a saver in memory that does not serialize."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is not None and (given := self.given(found)):
            found.checkpoint["channel_values"].update(given[0])
        return found


@breaks("FIDELITY-9")
class KeepsTheGivenMetadata(_Remembers):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        if found is not None and (given := self.given(found)):
            found.metadata.update(given[1])
        return found


@breaks("FIDELITY-9")
class GivesEveryReaderTheSameObjects(SQLiteSaver):
    """Like a saver that caches what it has read or put."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._read: dict[Any, Any] = {}

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        return found and self._read.setdefault(
            (*found.config["configurable"].values(), len(found.pending_writes)), found
        )
