"""Rows as records, and lists of channels as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import ChannelVersion, CheckpointRecord, ThreadRecord, ValueRecord, WriteRecord


def checkpoint_record(row: Sequence[Any]) -> CheckpointRecord:
    (
        thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels, opened, terms, run_id, caller_id,
        written_at,
    ) = row[:11]  # fmt: skip
    return CheckpointRecord(
        key=CheckpointKey(thread_id, checkpoint_ns, checkpoint_id),
        parent_id=parent_id,
        header=blob(header),
        channels=pairs_of(channels),
        open_channels=names_of(opened),
        terms=terms,
        run_id=run_id,
        caller_id=caller_id,
        written_at=written_at,
    )


def legible(row: Sequence[Any]) -> Sequence[Any]:
    """The row of a checkpoint in a listing of many threads, with its lists of channels replaced if they are damaged.

    They are replaced by one that no checkpoint has, because no version is empty. So the checksum of the header fails
    where this checkpoint is read, and the listing goes on with the others.
    """
    try:
        pairs_of(row[5])
        names_of(row[6])
    except CorruptCheckpoint:
        return (*row[:5], '[["",""]]', "[]", *row[7:])
    return row


def thread_record(row: Sequence[Any]) -> ThreadRecord:
    thread_id, created_at, updated_at, questions, checkpoint_id, *rest = row
    latest = None if checkpoint_id is None else checkpoint_record(legible((thread_id, "", checkpoint_id, *rest)))
    return ThreadRecord(thread_id, created_at, updated_at, latest, int(questions))


def namespace_of(row: Sequence[Any]) -> int:
    return int(row[11])  # a column of visible_checkpoints


def thread_of(row: Sequence[Any]) -> int:
    return int(row[12])  # a column of visible_checkpoints


def write_record(row: Sequence[Any]) -> WriteRecord:
    task_id, idx, channel, task_path, root, refs, questions, settles, written_at = row
    value = ValueRecord(blob(root), blob(refs))
    return WriteRecord(task_id, idx, channel, task_path, value, questions, bool(settles), written_at)


def blob(value: Any) -> bytes:
    """Bytes as they are stored; none, which no checksum allows, where SQLite finds something other than bytes."""
    return value if isinstance(value, bytes) else b""


def json_text(value: Any) -> str:
    return orjson.dumps(value).decode()


def hex_texts(terms: Iterable[bytes]) -> str:
    """Terms as a JSON list, each as SQLite's `hex` writes it."""
    return json_text([term.hex().upper() for term in terms])


def pairs_of(text: str) -> tuple[ChannelVersion, ...]:
    """The channels of a checkpoint as they are stored: JSON [[channel, version], …]."""
    try:
        pairs = tuple((channel, version) for channel, version in orjson.loads(text))
    except (ValueError, TypeError) as error:
        raise CorruptCheckpoint(f"a checkpoint's list of channels is damaged: {error}") from error
    if not all(isinstance(channel, str) and isinstance(version, str) for channel, version in pairs):
        raise CorruptCheckpoint("a checkpoint's list of channels holds something other than text")
    return pairs


def names_of(text: str) -> tuple[str, ...]:
    """A list of channels as it is stored: JSON [channel, …]."""
    try:
        names = tuple(orjson.loads(text))
    except (ValueError, TypeError) as error:
        raise CorruptCheckpoint(f"a checkpoint's list of open channels is damaged: {error}") from error
    if not all(isinstance(name, str) for name in names):
        raise CorruptCheckpoint("a checkpoint's list of open channels holds something other than text")
    return names
