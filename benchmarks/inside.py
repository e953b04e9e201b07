"""A look inside our own saver: the bytes that it passes to its store, and the requests that the store makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from checkpoint_base import CheckpointSaver
from checkpoint_base.records import Chunk, ChunkId, ValueRecord
from checkpoint_base.transport import Retrying, Transport


@dataclass(slots=True)
class Seen:
    """``new_bytes`` counts headers, values and chunks; ``steps`` counts requests, which follow one another."""

    new_bytes: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class _Counting:
    inner: Transport
    seen: Seen

    def execute(self, request: Any) -> Any:
        self.seen.steps += 1
        return self.inner.execute(request)


@contextmanager
def looking_into(saver: CheckpointSaver) -> Iterator[Seen]:
    """Record what sync calls of this saver do inside the ``with`` block."""
    seen = Seen()
    store, transport = saver.store, saver.transport
    put, put_writes = store.put, store.put_writes

    def noting_put(checkpoint: Any, values: Any, chunks: Any, unchanged: Any) -> Any:
        seen.new_bytes += len(checkpoint.header) + _size([value.value for value in values], chunks)
        return put(checkpoint, values, chunks, unchanged)

    def noting_put_writes(key: Any, writes: Any, chunks: Any) -> Any:
        seen.new_bytes += _size([write.value for write in writes], chunks)
        return put_writes(key, writes, chunks)

    store.put, store.put_writes = noting_put, noting_put_writes  # type: ignore[method-assign]
    saver.transport = Retrying(_Counting(store.transport, seen), saver.deadline)  # type: ignore[arg-type]  # sync
    try:
        yield seen
    finally:
        del store.put, store.put_writes
        saver.transport = transport


def _size(values: Sequence[ValueRecord], chunks: Mapping[ChunkId, Chunk]) -> int:
    roots = sum(len(value.root) + len(value.refs) for value in values)
    return roots + sum(len(chunk.body) for chunk in chunks.values())
