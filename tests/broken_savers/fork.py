"""Savers that break FORK clauses; `AlwaysGivesTheLatest` in `get` breaks FORK-3."""

from __future__ import annotations

from typing import Any

from checkpoint_base import SQLiteSaver
from tests.broken_savers import breaks


@breaks("FORK-1")
class CountsInTextOfAnyLength(SQLiteSaver):
    def get_next_version(self, current: Any, channel: None = None) -> str:
        return str(int(current or 0) + 1)


@breaks("FORK-1")
class BeginsAnewInEveryHandle(SQLiteSaver):
    _count = 0

    def get_next_version(self, current: Any, channel: None = None) -> str:
        self._count += 1
        return f"{self._count:032}"


@breaks("FORK-2")
class CountsPlainly(SQLiteSaver):
    def get_next_version(self, current: Any, channel: None = None) -> str:
        return f"{int(current or 0) + 1:032}"


@breaks("FORK-3")
class ContinuesFromTheLatestValues(SQLiteSaver):
    def get_tuple(self, config: Any) -> Any:
        found = super().get_tuple(config)
        latest = super().get_tuple({"configurable": {**config["configurable"], "checkpoint_id": None}})
        if found is None:
            return None
        values = {**found.checkpoint["channel_values"], **latest.checkpoint["channel_values"]}
        return found._replace(checkpoint={**found.checkpoint, "channel_values": values})
