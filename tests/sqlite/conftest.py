"""What the tests of SQLite share."""

from __future__ import annotations

import sqlite3
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_base import SQLiteSaver

CONFIG: Any = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}


def idle_connections(saver: SQLiteSaver) -> list[sqlite3.Connection]:
    transport: Any = saver.store.transport
    found: list[sqlite3.Connection] = transport._here.get().connections._idle
    return found


def put(saver: SQLiteSaver, values: dict[str, Any], config: Any = CONFIG) -> Any:
    checkpoint: Any = empty_checkpoint()
    versions = {channel: saver.get_next_version(None) for channel in values}
    checkpoint.update(channel_values=values, channel_versions=versions)
    return saver.put(config, checkpoint, {"source": "loop", "step": 1}, versions)
