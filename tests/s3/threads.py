"""Small threads whose checkpoints are called by numbers."""

from __future__ import annotations

from typing import Any

from langgraph.types import Interrupt

from checkpoint_s3 import S3Saver

QUESTION = [("__interrupt__", (Interrupt("sure?", id="i"),))]


def id_of(number: int) -> str:
    return f"{number:08x}-0000-6000-8000-000000000000"


def config_of(thread: str, number: int | None = None, space: str = "") -> Any:
    named = {} if number is None else {"checkpoint_id": id_of(number)}
    return {"configurable": {"thread_id": thread, "checkpoint_ns": space, **named}}


def put(
    saver: S3Saver,
    number: int,
    values: dict[str, Any] | None = None,
    *,
    thread: str = "thread",
    space: str = "",
    parent: int | None = None,
    unchanged: dict[str, str] | None = None,
    **metadata: Any,
) -> Any:
    """Put the checkpoint with this number, on the one before it.

    The version of a channel is the number, but for those that are ``unchanged`` since another one.
    """
    values = {"n": number} if values is None else values
    versions: Any = dict.fromkeys(values, f"{number}") | (unchanged or {})
    new: Any = {channel: version for channel, version in versions.items() if channel not in (unchanged or {})}
    checkpoint: Any = {
        "v": 4,
        "id": id_of(number),
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
        "updated_channels": None,
    }
    parent = number - 1 if parent is None else parent
    return saver.put(
        config_of(thread, parent or None, space), checkpoint, {"source": "loop", "step": number, **metadata}, new
    )


def numbers(found: Any) -> list[int]:
    return [int(each.config["configurable"]["checkpoint_id"][:8], 16) for each in found]


def opened(*channels: str) -> dict[str, Any]:
    """Metadata that says which channels are rebuilt from the ancestors' writes."""
    return {"counters_since_delta_snapshot": {channel: [1, 1] for channel in channels}}


def contributed(saver: S3Saver, number: int, channel: str, thread: str = "thread") -> tuple[Any, list[Any]]:
    """What the ancestors of a checkpoint have of a channel: the value to start from, and their writes."""
    found = saver.get_delta_channel_history(config=config_of(thread, number), channels=[channel])[channel]
    return found.get("seed"), [value for _, _, value in found["writes"]]
