"""Rows as records."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

from checkpoint_base.errors import CorruptCheckpoint, damage
from checkpoint_base.keys import CheckpointKey
from checkpoint_base.records import (
    Ancestry,
    CheckpointRecord,
    Chunk,
    ChunkId,
    InterruptRecord,
    StoredCheckpoint,
    ThreadRecord,
    ValueRecord,
    WriteRecord,
    unreadable,
)
from checkpoint_postgres.transport import Rows

# How many columns each takes. In lists of values and of writes, one more tells to which row, or generation, it belongs.
_RECORD_COLUMNS = 12
_VALUE_COLUMNS = 3
_WRITE_COLUMNS = 9


def checkpoint_record(row: Sequence[Any]) -> CheckpointRecord:
    (
        thread_id, checkpoint_ns, checkpoint_id, parent_id, header, channels, versions, opened, terms, run_id,
        caller_id, written_at,
    ) = row[:_RECORD_COLUMNS]  # fmt: skip
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


def interrupt_record(row: Sequence[Any]) -> InterruptRecord:
    write, chunks = _split(row[_RECORD_COLUMNS:], _WRITE_COLUMNS)
    return InterruptRecord(listed_checkpoint(row), write_record(write), _chunks_of(chunks))


def ancestry_of(row: Sequence[Any]) -> Ancestry:
    generations, *columns = row
    seeds, rest = _split(columns, _VALUE_COLUMNS)
    writes, chunks = _split(rest, 1 + _WRITE_COLUMNS)
    return Ancestry(
        tuple(map(tuple, _grouped_writes(writes, generations))),
        {channel: ValueRecord(root, refs) for channel, root, refs in _listed(seeds)},
        _chunks_of(chunks),
    )


def with_contents(rows: Rows) -> Sequence[StoredCheckpoint]:
    """A page of checkpoints. The first row has the contents of all of them."""
    if not rows:
        return []
    listed, rest = _split(rows[0][_RECORD_COLUMNS:], 1 + _VALUE_COLUMNS)
    writes_columns, chunks_columns = _split(rest, 1 + _WRITE_COLUMNS)
    values: list[dict[str, ValueRecord]] = [{} for _ in rows]
    for position, channel, root, refs in _listed(listed):
        values[position - 1][channel] = ValueRecord(root, refs)
    writes = _grouped_writes(writes_columns, len(rows))
    chunks = _chunks_of(chunks_columns)
    return [
        StoredCheckpoint(checkpoint_record(row), values[position], tuple(writes[position]), chunks)
        for position, row in enumerate(rows)
    ]


def _grouped_writes(columns: Sequence[Any], places: int) -> list[list[WriteRecord]]:
    """Writes grouped by their place, which the first column counts from 1."""
    found: list[list[WriteRecord]] = [[] for _ in range(places)]
    for position, *row in _listed(columns):
        found[position - 1].append(write_record(row))
    return found


def _listed(columns: Sequence[Sequence[Any] | None]) -> Iterator[tuple[Any, ...]]:
    """The rows of columns that are arrays, or NULL if they are empty."""
    return zip(*(column or () for column in columns), strict=True)


def _split(row: Sequence[Any], at: int) -> tuple[Sequence[Any], Sequence[Any]]:
    return row[:at], row[at:]


def _chunks_of(columns: Sequence[Any]) -> dict[ChunkId, Chunk]:
    ids, nodes, bodies = columns
    return dict(zip(ids, map(Chunk, ids, bodies, nodes), strict=True)) if ids else {}
