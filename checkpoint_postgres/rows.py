"""Rows as records."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from checkpoint_base.errors import CorruptCheckpoint, damage
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import (
    CheckpointRecord,
    Chunk,
    ChunkId,
    StoredCheckpoint,
    ThreadRecord,
    ValueRecord,
    WriteRecord,
    unreadable,
)
from checkpoint_postgres.transport import Rows

RECORD_COLUMNS = 12


def checkpoint_record(row: Sequence[Any]) -> CheckpointRecord:
    (
        thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels, versions, opened, terms, run_id,
        caller_id, written_at,
    ) = row[:RECORD_COLUMNS]  # fmt: skip
    key = CheckpointKey(thread_id, checkpoint_ns, checkpoint_id)
    if len(channels) != len(versions) or any(None in column for column in (channels, versions, opened, terms)):
        raise damage(f"the channels or terms of checkpoint {key.place} are damaged")
    return CheckpointRecord(
        key=key,
        parent_id=parent_id,
        header=header,
        channels=tuple(zip(channels, versions, strict=True)),
        open_channels=tuple(opened),
        terms=struct.pack(f">{len(terms)}q", *terms),
        run_id=run_id,
        caller_id=caller_id,
        written_at=written_at,
    )


def listed_checkpoint(row: Sequence[Any]) -> CheckpointRecord:
    """`checkpoint_record`, in a listing that one damaged thread must not end."""
    try:
        return checkpoint_record(row)
    except CorruptCheckpoint:
        return unreadable(CheckpointKey(*row[:3]))


def thread_record(row: Sequence[Any]) -> ThreadRecord:
    thread_id, created_at, updated_at, questions, _, checkpoint_id, *_ = row
    latest = None if checkpoint_id is None else listed_checkpoint((thread_id, *row[4:]))
    return ThreadRecord(thread_id, created_at, updated_at, latest, int(questions))


def write_record(row: Sequence[Any]) -> WriteRecord:
    task_id, idx, channel, task_path, questions, settles, written_at, root, refs = row
    return WriteRecord(task_id, idx, channel, task_path, ValueRecord(root, refs), questions, settles, written_at)


def with_contents(rows: Rows) -> Sequence[StoredCheckpoint]:
    """A page of checkpoints. The first row has the contents of all of them."""
    if not rows:
        return []
    contents = rows[0][RECORD_COLUMNS:]
    values: list[dict[str, ValueRecord]] = [{} for _ in rows]
    for position, channel, root, refs in zip(*(column or () for column in contents[:4]), strict=True):
        values[position - 1][channel] = ValueRecord(root, refs)
    writes = grouped_writes(contents[4:14], len(rows))
    chunks = chunks_of(contents[14:])
    return [
        StoredCheckpoint(checkpoint_record(row), values[position], tuple(writes[position]), chunks)
        for position, row in enumerate(rows)
    ]


def grouped_writes(columns: Sequence[Any], places: int) -> list[list[WriteRecord]]:
    """Writes grouped by their place, which the first column counts from 1."""
    found: list[list[WriteRecord]] = [[] for _ in range(places)]
    for position, *row in zip(*(column or () for column in columns), strict=True):
        found[position - 1].append(write_record(row))
    return found


def chunks_of(columns: Sequence[Any]) -> dict[ChunkId, Chunk]:
    ids, nodes, bodies = columns
    return dict(zip(ids, map(Chunk, ids, bodies, nodes), strict=True)) if ids else {}
