"""What the command line says about a checkpoint and about pruning, as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from checkpoint_base.cli.threads import thread_config
from checkpoint_base.errors import UNREADABLE, SerializationError
from checkpoint_base.keys import caller_of
from checkpoint_base.operations import rebuilt_channels
from checkpoint_base.retention import ended_calls
from checkpoint_base.saver import CheckpointSaver
from checkpoint_base.transport import run
from checkpoint_base.two_stores import Directing, checkpoints_of


def checkpoint(saver: CheckpointSaver, found: CheckpointTuple) -> dict[str, Any]:
    """Return a checkpoint as `show` prints it, with the pending interrupts of its thread that were asked at it."""
    key = {**found.config["configurable"]}
    metadata = dict(found.metadata)
    writes = found.pending_writes or ()
    asked = saver.interrupts(thread_id=key["thread_id"])
    place = (key["checkpoint_ns"], key["checkpoint_id"])
    deltas = rebuilt_channels(found.checkpoint, found.metadata)
    return {
        **key,
        "parent_id": found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None,
        "created_at": found.checkpoint.get("ts"),
        "source": metadata.pop("source", None),
        "step": metadata.pop("step", None),
        "metadata": metadata,
        "channels": {name: _unwrapped(value) for name, value in found.checkpoint["channel_values"].items()},
        "delta_channels": {name: _delta_channel(saver, found.config, name) for name in deltas},
        "pending_writes": [dict(zip(("task_id", "channel", "value"), write, strict=True)) for write in writes],
        "interrupts": [each for each in asked if (each.checkpoint_ns, each.checkpoint_id) == place],
    }


def prune_plan(saver: CheckpointSaver, thread: str, strategy: str, keep: int) -> dict[str, Any]:
    """Return how many checkpoints a thread has, and how many of them pruning would remove."""
    spaces: dict[str, dict[str, str | None]] = {}
    for ns, checkpoint_id, caller_id in _placed(saver, thread):
        spaces.setdefault(ns, {})[checkpoint_id] = caller_id
    ends = ended_calls(keep, [(ns, *each, True) for ns, here in spaces.items() for each in here.items()])
    count = sum(map(len, spaces.values()))
    kept = sum(min(len(here), keep) for here in spaces.values() if not ends(here.items()))
    return {"thread_id": thread, "checkpoints": count, "removed": count - kept if strategy == "keep-latest" else count}


def _placed(saver: CheckpointSaver, thread: str) -> Iterable[tuple[str, str, str | None]]:
    """The namespace, the id and the ``caller_id`` of every checkpoint of a thread.

    Damage is an error. But to prune an encrypted thread takes no key, and so this needs none.
    """
    try:
        infos = list(saver.history(thread_config(thread)))
    except SerializationError:
        records = run(checkpoints_of(saver, thread), Directing())
        return [(key.checkpoint_ns, key.checkpoint_id, record.caller_id) for key, record in records.items()]
    return [(info.checkpoint_ns, info.checkpoint_id, caller_of(info.checkpoint_ns, info.metadata)) for info in infos]


def _delta_channel(saver: CheckpointSaver, config: RunnableConfig, name: str) -> dict[str, Any]:
    """What a delta channel is rebuilt from. Only the graph knows how."""
    try:
        history = saver.get_delta_channel_history(config=config, channels=[name])[name]
    except UNREADABLE as error:  # the rest of the checkpoint is shown all the same
        return {"begins_with": None, "writes": [], "error": str(error)}
    writes = [value for _, _, value in history["writes"]]
    return {"begins_with": _unwrapped(history.get("seed")), "writes": writes, "error": None}


def _unwrapped(value: Any) -> Any:
    """The value of a delta channel, which LangGraph stores in a wrapping of its own."""
    return value.value if isinstance(value, _DeltaSnapshot) else value
