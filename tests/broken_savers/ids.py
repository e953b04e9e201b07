"""Savers that break IDS clauses."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


class _Changed(SQLiteSaver):
    """Changes the ids that it is given, and changes them back in its results."""

    def _changed(self, config: Any) -> Any:
        return config

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(self._changed(config))
        return found and _named_as_in(config, found)

    def list(self, config: Any, **options: Any) -> Iterator[Any]:
        if config is None:
            return super().list(None, **options)
        return (_named_as_in(config, found) for found in super().list(self._changed(config), **options))

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        super().put(self._changed(config), checkpoint, metadata, new_versions)
        return {"configurable": {**config["configurable"], "checkpoint_id": checkpoint["id"]}}

    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(self._changed(config), writes, task_id, task_path)


def _named_as_in(config: Any, found: Any) -> Any:
    return found._replace(config={"configurable": {**found.config["configurable"], **config["configurable"]}})


def _with(config: Any, change: Callable[[str], str], *names: str) -> Any:
    changed = {name: change(config["configurable"][name]) for name in names if config["configurable"].get(name)}
    return {**config, "configurable": {**config["configurable"], **changed}}


@breaks("IDS-1")
class JoinsIdsWithColons(_Changed):
    """As the Redis saver does."""

    def _changed(self, config: Any) -> Any:
        named = config["configurable"]
        joined = f"{named['thread_id']}:{named.get('checkpoint_ns', '')}"
        return {**config, "configurable": {**named, "thread_id": joined, "checkpoint_ns": ""}}


@breaks("IDS-1")
class FoldsCase(_Changed):
    def _changed(self, config: Any) -> Any:
        return _with(config, str.casefold, "thread_id")


@breaks("IDS-1")
class ComposesCharacters(_Changed):
    def _changed(self, config: Any) -> Any:
        return _with(config, lambda id_: unicodedata.normalize("NFC", id_), "checkpoint_ns")


@breaks("IDS-1")
class StripsSpaces(_Changed):
    def _changed(self, config: Any) -> Any:
        return _with(config, str.strip, "thread_id")


@breaks("IDS-1")
class TakesThreadsForPatterns(SQLiteSaver):
    """Like savers that scan for keys."""

    def get_tuple(self, config: Any) -> Any:
        named = config["configurable"]
        if named["thread_id"].endswith("*"):
            for found in self.list(None):
                if found.config["configurable"]["thread_id"].startswith(named["thread_id"][:-1]):
                    return found
        return super().get_tuple(config)


@breaks("IDS-1")
class FoldsCaseOfCheckpoints(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return super().put(config, {**checkpoint, "id": checkpoint["id"].casefold()}, metadata, new_versions)

    def get_tuple(self, config: Any) -> Any:
        return super().get_tuple(_with(config, str.casefold, "checkpoint_id"))


@breaks("IDS-1")
class TrimsTasks(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id.strip(), task_path)


@breaks("IDS-1")
class JoinsTasksWithPositions(SQLiteSaver):
    """The write at position 11 of task 1 has the key of that at position 1 of task 11."""

    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        kept: dict[str, Any] = {}
        positions: Counter[str] = Counter()
        for write in (found.pending_writes or ()) if found else ():
            kept.setdefault(f"{write[0]}{positions[write[0]]}", write)
            positions[write[0]] += 1
        return found and found._replace(pending_writes=[*kept.values()])


@breaks("IDS-2")
class CannotReadIntegers(SQLiteSaver):
    """As the Postgres saver does: it stores an integer as text, and compares it as an integer."""

    def get_tuple(self, config: Any) -> Any:
        return None if isinstance(config["configurable"]["thread_id"], int) else super().get_tuple(config)


@breaks("IDS-3")
class TakesNoneForAThread(_Changed):
    def _changed(self, config: Any) -> Any:
        return {**config, "configurable": {"thread_id": "None", **config["configurable"]}}


@breaks("IDS-3")
class PutsWithoutAThread(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        named = {"thread_id": "None", **config["configurable"]}
        stored = super().put({"configurable": named}, checkpoint, metadata, new_versions)
        config["configurable"]["thread_id"]
        return stored


@breaks("IDS-4")
class StripsNUL(_Changed):
    def _changed(self, config: Any) -> Any:
        return _with(config, lambda id_: id_.replace("\x00", ""), "thread_id", "checkpoint_ns")


@breaks("IDS-4")
class ReplacesSurrogates(_Changed):
    def _changed(self, config: Any) -> Any:
        return _with(config, lambda id_: id_.encode("utf-8", "replace").decode(), "thread_id")


@breaks("IDS-4")
class CutsIds(_Changed):
    """Like databases with columns of a fixed width."""

    def _changed(self, config: Any) -> Any:
        return _with(config, lambda id_: id_[:255], "thread_id")


@breaks("IDS-4")
class ComparesTheBeginningOfLongIds(_Changed):
    """Like a store whose keys are shorter than the ids that it accepts."""

    def _changed(self, config: Any) -> Any:
        return _with(config, lambda id_: id_[:255] if len(id_) <= 512 else id_, "thread_id")


@breaks("IDS-4")
class ReplacesSurrogatesOfCheckpoints(SQLiteSaver):
    """As InMemorySaver does: its serializer replaces the character by a question mark."""

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        id_ = checkpoint["id"].encode("utf-8", "replace").decode()
        return super().put(config, {**checkpoint, "id": id_}, metadata, new_versions)


@breaks("IDS-4")
class NamesCheckpointsWithoutId(SQLiteSaver):
    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return super().put(config, {**checkpoint, "id": checkpoint["id"] or "1"}, metadata, new_versions)


@breaks("IDS-4")
class NamesTasksWithoutId(SQLiteSaver):
    def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        super().put_writes(config, writes, task_id or "task", task_path)


@breaks("IDS-5")
class CutsNamespaces(_Changed):
    def _changed(self, config: Any) -> Any:
        return _with(config, lambda id_: id_[:255], "checkpoint_ns")


@breaks("IDS-5")
class RefusesLongNamespaces(_Changed):
    def _changed(self, config: Any) -> Any:
        if len(config["configurable"].get("checkpoint_ns", "")) > 512:
            raise ValueError("checkpoint_ns is too long")
        return config
