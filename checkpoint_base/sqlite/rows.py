"""Rows as records, and lists of channels as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from checkpoint_base.errors import CorruptCheckpoint
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import (
    ChannelVersion,
    CheckpointRecord,
    ChunkId,
    ThreadRecord,
    ValueRecord,
    WriteRecord,
    split_ids,
    unreadable,
    unreadable_question,
)

LAST_TIME = 2**63 - 1
"""SQLite's greatest integer."""

_TEXT_OR_NONE = frozenset((str, type(None)))


def checkpoint_record(row: Sequence[Any]) -> CheckpointRecord:
    """A row of visible_checkpoints as a record.

    Raises:
        CorruptCheckpoint: the row is damaged.
    """
    (
        thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels, opened, terms, run_id, caller_id,
        written_at,
    ) = row[:11]  # fmt: skip
    if not (
        type(thread_id) is type(checkpoint_ns) is type(checkpoint_id) is str
        and _TEXT_OR_NONE.issuperset((type(parent_id), type(run_id), type(caller_id)))
        and type(written_at) is int
    ):
        raise other_type("a checkpoint")
    return CheckpointRecord(
        key=CheckpointKey(thread_id, checkpoint_ns, checkpoint_id),
        parent_id=parent_id,
        header=blob(header),
        channels=pairs_of(channels),
        open_channels=names_of(opened),
        terms=blob(terms),
        run_id=run_id,
        caller_id=caller_id,
        written_at=written_at,
    )


def listed_checkpoint(row: Sequence[Any]) -> CheckpointRecord:
    """`checkpoint_record`, for a listing of many threads: one damaged row hides no other."""
    try:
        return checkpoint_record(row)
    except CorruptCheckpoint:
        return unreadable(CheckpointKey(*map(str, row[:3])))


def thread_record(row: Sequence[Any]) -> ThreadRecord:
    thread_id, created_at, updated_at, questions, checkpoint_id, *rest = row
    latest = None if checkpoint_id is None else listed_checkpoint((thread_id, "", checkpoint_id, *rest))
    return ThreadRecord(str(thread_id), time_of(created_at), time_of(updated_at), latest, int(questions))


def place_of(row: Sequence[Any]) -> tuple[int, int]:
    """The numbers of the thread and the namespace in a row of visible_checkpoints."""
    namespace, thread = row[11:13]
    return int(thread), int(namespace)


def write_record(row: Sequence[Any]) -> WriteRecord:
    """A row of writes as a record.

    Raises:
        CorruptCheckpoint: the row is damaged.
    """
    task_id, idx, channel, task_path, root, refs, questions, settles, written_at = row
    if not (
        type(task_id) is type(channel) is type(task_path) is str
        and type(idx) is type(questions) is type(settles) is type(written_at) is int
    ):
        raise other_type("a write")
    value = value_record(root, refs)
    return WriteRecord(task_id, idx, channel, task_path, value, questions, bool(settles), written_at)


def listed_question(row: Sequence[Any]) -> WriteRecord:
    """`write_record`, for the inbox: one damaged row hides no other."""
    try:
        return write_record(row)
    except CorruptCheckpoint:
        return unreadable_question(str(row[0]), time_of(row[8]))


def value_record(root: Any, refs: Any) -> ValueRecord:
    return ValueRecord(blob(root), blob(refs))


def blob(value: Any) -> bytes:
    """Bytes as they are stored; none, which no checksum allows, where SQLite finds something other than bytes."""
    return value if isinstance(value, bytes) else b""


def time_of(value: Any) -> int:
    """A time as it is stored; one that no time can have, at the same end of a listing, where SQLite finds none."""
    if isinstance(value, float):
        return int(max(-1, min(value, LAST_TIME)))
    return value if isinstance(value, int) else LAST_TIME  # SQLite sorts text and bytes behind all numbers


def ids_of(joined: Any) -> tuple[ChunkId, ...]:
    """The ids of chunks as they are stored: joined.

    Raises:
        CorruptCheckpoint: they are damaged, so nobody knows which chunks are needed.
    """
    if not isinstance(joined, bytes):
        raise other_type("a list of chunks")
    return split_ids(joined)


def other_type(what: str) -> CorruptCheckpoint:
    """The error for what has another type than was stored: SQLite keeps it beside each value, and a bit may change."""
    return CorruptCheckpoint(f"{what} is damaged: a part of it is of another type than was stored")


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
